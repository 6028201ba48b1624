package interop;

import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.CRC32;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;

/** What an application can see of messages and results, as fields of a line. */
final class Facts {
    /** How much of a long body is told. */
    private static final int SHOWN = 64;
    private static final int WHOLE = 100_000;

    private Facts() {
    }

    static Map<String, Object> of(MessageExt m) {
        return of(m, false);
    }

    static Map<String, Object> of(MessageExt m, boolean whole) {
        Map<String, Object> f = new LinkedHashMap<>();
        f.put("topic", m.getTopic());
        f.put("tags", m.getTags());
        f.put("keys", m.getKeys());
        f.put("body", body(m.getBody(), whole ? WHOLE : SHOWN));
        f.put("flag", m.getFlag());
        f.put("props", new TreeMap<>(m.getProperties()));
        f.put("queue", m.getQueueId());
        f.put("offset", m.getQueueOffset());
        f.put("reconsume", m.getReconsumeTimes());
        f.put("sysFlag", m.getSysFlag());
        f.put("born", m.getBornTimestamp());
        f.put("bornHost", m.getBornHost() == null ? null : m.getBornHostString());
        f.put("store", m.getStoreTimestamp());
        f.put("storeHost", String.valueOf(m.getStoreHost()).replace("/", ""));
        f.put("msgId", m.getMsgId());
        f.put("offsetMsgId", m instanceof MessageClientExt ? ((MessageClientExt) m).getOffsetMsgId() : null);
        f.put("prepared", m.getPreparedTransactionOffset());
        f.put("transactionId", m.getTransactionId());
        return f;
    }

    static Map<String, Object> of(SendResult r) {
        Map<String, Object> f = new LinkedHashMap<>();
        f.put("status", r.getSendStatus().name());
        f.put("msgId", r.getMsgId());
        f.put("offsetMsgId", r.getOffsetMsgId());
        f.put("queue", r.getMessageQueue().getQueueId());
        f.put("broker", r.getMessageQueue().getBrokerName());
        f.put("topic", r.getMessageQueue().getTopic());
        f.put("offset", r.getQueueOffset());
        f.put("transactionId", r.getTransactionId());
        f.put("region", r.getRegionId());
        f.put("traceOn", r.isTraceOn());
        return f;
    }

    /** A short body as text; of a long one the beginning, the length and a checksum. */
    static String body(byte[] b) {
        return body(b, SHOWN);
    }

    private static String body(byte[] b, int shown) {
        if (b == null) {
            return null;
        }
        String text = new String(b, 0, Math.min(b.length, shown), StandardCharsets.UTF_8);
        if (b.length <= shown) {
            return text;
        }
        CRC32 sum = new CRC32();
        sum.update(b);
        return String.format("%s#%d#%08x", text, b.length, sum.getValue());
    }

    /** The message that a command describes. */
    static Message message(Command c, String body) {
        StringBuilder text = new StringBuilder(body);
        for (int want = c.number("fill", 0); text.length() < want; ) {
            text.append('.');
        }
        Message m = new Message(c.text("topic"), c.text("tags", null), c.text("keys", null), text.toString().getBytes(StandardCharsets.UTF_8));
        m.setFlag(c.number("flag", 0));
        if (c.has("delay")) {
            m.setDelayTimeLevel(c.number("delay", 0));
        }
        if (c.has("timer")) {
            Edition.timer(m, c.text("timer"), c.wide("due"));
        }
        c.under("prop.").forEach(m::putUserProperty);
        return m;
    }
}
