import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import io.cloudevents.CloudEvent;
import io.cloudevents.core.provider.EventFormatProvider;
import io.cloudevents.http.HttpMessageFactory;
import io.cloudevents.jackson.JsonFormat;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * Reads requests.jsonl with the CloudEvents SDK for Java and prints one JSON line for each event: `events`; or the data
 * of profile aws with the types of aws-lambda-java-events: `lambda`; or that of integration-source with Gson: `gson`.
 *
 * The SDK has no reader of batches: their elements are read one by one.
 */
public class Reader {
    static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    static class Captured {
        String combination, profile, mode, data, body_base64;
        List<List<String>> headers;

        byte[] body() {
            return Base64.getDecoder().decode(body_base64);
        }
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(System.out, false, UTF_8);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, UTF_8));
        int number = 0;
        for (String line; (line = lines.readLine()) != null; number++) {
            Captured request = GSON.fromJson(line, Captured.class);
            try {
                for (CloudEvent event : read(request)) {
                    Map<String, Object> read = tell(arguments[0], request, event);
                    if (read != null) {
                        read.put("combination", request.combination);
                        read.put("request", number);
                        out.println(GSON.toJson(read));
                    }
                }
            } catch (RuntimeException error) { // whatever the libraries throw is what their users meet
                Map<String, Object> failure = Map.of("combination", request.combination, "request", number, "error", error.toString());
                out.println(GSON.toJson(failure));
            }
        }
        out.flush();
    }

    static Map<String, Object> tell(String what, Captured request, CloudEvent event) {
        boolean record = !event.getType().endsWith(".gap");
        String data = new String(event.getData().toBytes(), UTF_8);
        return switch (what) {
            case "lambda" ->
                record && request.profile.equals("aws") && request.data.equals("dynamodb-json") ? Lambda.read(data) : null;
            case "gson" -> record && request.profile.equals("integration-source") ? Camel.read(data) : null;
            default -> normalized(event, data);
        };
    }

    static List<CloudEvent> read(Captured request) throws java.io.IOException {
        List<CloudEvent> events = new ArrayList<>();
        if (request.mode.equals("batch")) {
            ObjectMapper exact = new ObjectMapper().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);
            for (JsonNode element : exact.readTree(request.body())) {
                byte[] text = element.toString().getBytes(UTF_8);
                events.add(EventFormatProvider.getInstance().resolveFormat(JsonFormat.CONTENT_TYPE).deserialize(text));
            }
            return events;
        }
        Map<String, List<String>> headers = new LinkedHashMap<>();
        request.headers.forEach(pair -> headers.computeIfAbsent(pair.get(0), name -> new ArrayList<>()).add(pair.get(1)));
        events.add(HttpMessageFactory.createReaderFromMultimap(headers, request.body()).toEvent());
        return events;
    }

    static Map<String, Object> normalized(CloudEvent event, String data) {
        Map<String, Object> extensions = new LinkedHashMap<>();
        event.getExtensionNames().forEach(name -> extensions.put(name, event.getExtension(name)));
        Map<String, Object> read = new LinkedHashMap<>();
        read.put("id", event.getId());
        read.put("source", event.getSource().toString());
        read.put("type", event.getType());
        read.put("subject", event.getSubject());
        read.put("time", event.getTime() == null ? null : event.getTime().toString());
        read.put("datacontenttype", event.getDataContentType());
        read.put("extensions", extensions);
        read.put("data", data);
        return read;
    }
}
