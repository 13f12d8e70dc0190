import com.amazonaws.services.lambda.runtime.events.DynamodbEvent;
import com.amazonaws.services.lambda.runtime.events.models.dynamodb.AttributeValue;
import com.amazonaws.services.lambda.runtime.events.models.dynamodb.StreamRecord;
import com.amazonaws.services.lambda.runtime.serialization.PojoSerializer;
import com.amazonaws.services.lambda.runtime.serialization.events.LambdaEventSerializers;
import java.nio.ByteBuffer;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** What a function gets that was written for the Lambda trigger, by the serializer of Lambda's Java runtime. */
class Lambda {
    static final PojoSerializer<DynamodbEvent> SERIALIZER =
        LambdaEventSerializers.serializerFor(DynamodbEvent.class, Lambda.class.getClassLoader());

    static Map<String, Object> read(String data) {
        DynamodbEvent event = SERIALIZER.fromJson("{\"Records\":[" + data + "]}");
        DynamodbEvent.DynamodbStreamRecord record = event.getRecords().get(0);
        StreamRecord change = record.getDynamodb();
        Map<String, Object> read = new LinkedHashMap<>();
        read.put("event_id", record.getEventID());
        read.put("operation", record.getEventName());
        read.put("region", record.getAwsRegion());
        read.put("sequence", change.getSequenceNumber());
        read.put("size", change.getSizeBytes());
        read.put("view", change.getStreamViewType());
        read.put("keys", image(change.getKeys()));
        read.put("new", image(change.getNewImage()));
        read.put("old", image(change.getOldImage()));
        var time = change.getApproximateCreationDateTime();
        read.put("seconds", time == null ? null : time.getTime() / 1000);
        var identity = record.getUserIdentity();
        read.put("identity", identity == null ? null : List.of(identity.getPrincipalId(), identity.getType()));
        return read;
    }

    static Map<String, Object> image(Map<String, AttributeValue> attributes) {
        if (attributes == null) {
            return null;
        }
        Map<String, Object> typed = new LinkedHashMap<>();
        attributes.forEach((name, value) -> typed.put(name, value(value)));
        return typed;
    }

    static Map<String, Object> value(AttributeValue value) {
        Map<String, Object> typed = new LinkedHashMap<>();
        put(typed, "S", value.getS());
        put(typed, "N", value.getN());
        put(typed, "B", value.getB() == null ? null : base64(value.getB()));
        put(typed, "BOOL", value.getBOOL());
        put(typed, "NULL", value.getNULL());
        put(typed, "SS", value.getSS());
        put(typed, "NS", value.getNS());
        put(typed, "BS", value.getBS() == null ? null : value.getBS().stream().map(Lambda::base64).collect(Collectors.toList()));
        put(typed, "L", value.getL() == null ? null : value.getL().stream().map(Lambda::value).collect(Collectors.toList()));
        put(typed, "M", image(value.getM()));
        return typed;
    }

    static void put(Map<String, Object> typed, String name, Object value) {
        if (value != null) {
            typed.put(name, value);
        }
    }

    static String base64(ByteBuffer bytes) {
        byte[] copy = new byte[bytes.remaining()];
        bytes.duplicate().get(copy);
        return Base64.getEncoder().encodeToString(copy);
    }
}
