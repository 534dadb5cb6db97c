import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.ArrayList;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

/** Java's own client: `HTTPS-ADDRESS WS-ADDRESS`; prints what came of each exchange, a line each. */
public class JavaPeer {
    /** The certificate is not what is tested. */
    static final X509TrustManager EVERYBODY = new X509TrustManager() {
        public void checkClientTrusted(X509Certificate[] chain, String type) {}

        public void checkServerTrusted(X509Certificate[] chain, String type) {}

        public X509Certificate[] getAcceptedIssuers() {
            return new X509Certificate[0];
        }
    };

    public static void main(String[] args) throws Exception {
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] {EVERYBODY}, null);
        HttpClient client =
            HttpClient.newBuilder().sslContext(context).connectTimeout(Duration.ofSeconds(10)).build();
        URI uri = URI.create("https://" + args[0] + "/");
        HttpRequest get = HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(30)).build();
        var asked = new ArrayList<CompletableFuture<HttpResponse<String>>>();
        for (int n = 0; n < 100; n++) {
            asked.add(client.sendAsync(get, HttpResponse.BodyHandlers.ofString()));
        }
        var answers = new TreeMap<String, Integer>();
        for (var answer : asked) {
            HttpResponse<String> response = answer.get();
            answers.merge(response.version() + " " + response.statusCode() + " " + response.body(), 1, Integer::sum);
        }
        System.out.println(answers);
        for (HttpClient.Version version : HttpClient.Version.values()) {
            for (boolean expects : new boolean[] {false, true}) {
                HttpRequest post = HttpRequest.newBuilder(uri)
                    .version(version)
                    .expectContinue(expects)
                    .timeout(Duration.ofSeconds(30))
                    .POST(HttpRequest.BodyPublishers.ofByteArray(new byte[900_000]))
                    .build();
                var response = client.send(post, HttpResponse.BodyHandlers.ofString());
                System.out.println(response.version() + " " + response.statusCode() + " " + response.body());
            }
        }
        var heard = new CompletableFuture<String>();
        WebSocket socket = client.newWebSocketBuilder()
            .buildAsync(URI.create("ws://" + args[1] + "/chat"), new WebSocket.Listener() {
                final StringBuilder words = new StringBuilder();

                public CompletionStage<?> onText(WebSocket socket, CharSequence piece, boolean last) {
                    words.append(piece);
                    socket.request(1);
                    return null;
                }

                public CompletionStage<?> onClose(WebSocket socket, int status, String reason) {
                    heard.complete(words + ", closed " + status + " " + reason);
                    return null;
                }
            })
            .get(30, TimeUnit.SECONDS);
        socket.sendText("enough", true);
        System.out.println(heard.get(30, TimeUnit.SECONDS));
    }
}
