<%@ page language="java" import="java.util.*" pageEncoding="UTF-8"%>
<html>
<head><title>JSP test1 page</title></head>
<body>
<h1><% out.println("Dynamic page 1"); %></h1>
<pre>
<%
    for (Enumeration<String> names = request.getHeaderNames(); names.hasMoreElements();) {
        String name = names.nextElement();
        out.println(name.toLowerCase() + ": " + request.getHeader(name));
    }
%>
</pre>
</body>
</html>
