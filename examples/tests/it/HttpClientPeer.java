import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;

/** Asks for a page a hundred times at once, offering HTTP/2 as this client does, and says what came. */
public class HttpClientPeer {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build();
        HttpRequest request = HttpRequest.newBuilder(URI.create(args[0])).timeout(Duration.ofSeconds(30)).build();
        var asked = new ArrayList<CompletableFuture<HttpResponse<String>>>();
        for (int n = 0; n < 100; n++) {
            asked.add(client.sendAsync(request, HttpResponse.BodyHandlers.ofString()));
        }
        var answers = new TreeMap<String, Integer>();
        for (var answer : asked) {
            HttpResponse<String> response = answer.get();
            String page = response.body().contains(args[1]) ? "page" : "something else";
            answers.merge(response.version() + " " + response.statusCode() + " " + page, 1, Integer::sum);
        }
        System.out.println(answers);
    }
}
