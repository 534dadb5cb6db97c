<%-- A page that was copied to the wrong place: its source must never be served. --%>
