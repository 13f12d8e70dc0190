import com.google.gson.Gson;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * Data of profile integration-source read by Gson into classes with the fields of the AWS SDK's own
 * software.amazon.awssdk.services.dynamodb.model.Record, which is what Camel hands to Gson.
 */
class Camel {
    static class Record {
        String eventID, eventName, eventVersion, eventSource, awsRegion;
        StreamRecord dynamodb;
        Identity userIdentity;
    }

    static class StreamRecord {
        Long approximateCreationDateTime, sizeBytes;
        Map<String, AttributeValue> keys, newImage, oldImage;
        String sequenceNumber, streamViewType;
    }

    static class Identity {
        String principalId, type;
    }

    static class SdkBytes {
        byte[] bytes;
    }

    enum Type { S, N, B, SS, NS, BS, M, L, BOOL, NUL }

    static class AttributeValue {
        String s, n;
        SdkBytes b;
        List<String> ss, ns;
        List<SdkBytes> bs;
        Map<String, AttributeValue> m;
        List<AttributeValue> l;
        Boolean bool, nul;
        Type type;

        Map<String, Object> typed() {
            Object value = switch (type) {
                case S -> s;
                case N -> n;
                case B -> base64(b);
                case SS -> ss;
                case NS -> ns;
                case BS -> bs.stream().map(Camel::base64).collect(Collectors.toList());
                case M -> image(m);
                case L -> l.stream().map(AttributeValue::typed).collect(Collectors.toList());
                case BOOL -> bool;
                case NUL -> nul;
            };
            return Map.of(type == Type.NUL ? "NULL" : type.name(), value);
        }
    }

    static Map<String, Object> read(String data) {
        Record record = new Gson().fromJson(data, Record.class);
        StreamRecord change = record.dynamodb;
        Map<String, Object> read = new LinkedHashMap<>();
        read.put("event_id", record.eventID);
        read.put("operation", record.eventName);
        read.put("region", record.awsRegion);
        read.put("sequence", change.sequenceNumber);
        read.put("size", change.sizeBytes);
        read.put("view", change.streamViewType);
        read.put("keys", image(change.keys));
        // An absent image is an empty one in this form.
        read.put("new", change.newImage.isEmpty() ? null : image(change.newImage));
        read.put("old", change.oldImage.isEmpty() ? null : image(change.oldImage));
        Long millis = change.approximateCreationDateTime;
        read.put("seconds", millis == null ? null : millis / 1000);
        Identity identity = record.userIdentity;
        read.put("identity", identity == null ? null : List.of(identity.principalId, identity.type));
        return read;
    }

    static Map<String, Object> image(Map<String, AttributeValue> attributes) {
        Map<String, Object> typed = new LinkedHashMap<>();
        attributes.forEach((name, value) -> typed.put(name, value.typed()));
        return typed;
    }

    static String base64(SdkBytes value) {
        return Base64.getEncoder().encodeToString(value.bytes);
    }
}
