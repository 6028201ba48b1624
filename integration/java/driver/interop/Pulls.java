package interop;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The consumers whose application asks for messages, by handle. */
@SuppressWarnings("deprecation")
final class Pulls {
    private final Map<String, DefaultLitePullConsumer> lite = new ConcurrentHashMap<>();
    private final Map<String, DefaultMQPullConsumer> pull = new ConcurrentHashMap<>();

    /** Opens a lite pull consumer: subscribed to a topic, or with all of its queues assigned. */
    Map<String, Object> lite(Command c) throws Exception {
        DefaultLitePullConsumer p = new DefaultLitePullConsumer(c.text("group"));
        p.setNamesrvAddr(c.text("ns"));
        p.setMqClientApiTimeout(30_000);
        p.setAutoCommit(c.has("auto"));
        p.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        if (c.has("assign")) {
            p.start();
            p.assign(p.fetchMessageQueues(c.text("topic")));
        } else {
            p.subscribe(c.text("topic"), c.text("tags", "*"));
            p.start();
        }
        lite.put(c.text("h"), p);
        return null;
    }

    private DefaultLitePullConsumer liteOf(Command c) {
        return lite.get(c.text("h"));
    }

    private static MessageQueue queue(Command c) {
        return new MessageQueue(c.text("topic"), c.text("broker"), c.number("queue", 0));
    }

    Map<String, Object> poll(Command c) {
        Map<String, Object> f = new LinkedHashMap<>();
        f.put("messages", facts(liteOf(c).poll(c.number("wait", 1000))));
        return f;
    }

    Map<String, Object> commit(Command c) {
        liteOf(c).commitSync();
        return null;
    }

    Map<String, Object> committed(Command c) throws Exception {
        Map<String, Object> f = new LinkedHashMap<>();
        f.put("offset", liteOf(c).committed(queue(c)));
        return f;
    }

    Map<String, Object> seek(Command c) throws Exception {
        liteOf(c).seek(queue(c), c.wide("offset"));
        return null;
    }

    private static List<Object> facts(List<MessageExt> messages) {
        List<Object> all = new ArrayList<>();
        for (MessageExt m : messages == null ? Collections.<MessageExt>emptyList() : messages) {
            all.add(Facts.of(m));
        }
        return all;
    }

    Map<String, Object> puller(Command c) throws Exception {
        DefaultMQPullConsumer p = new DefaultMQPullConsumer(c.text("group"), Edition.signing(c.text("ak", null), c.text("sk", null)));
        p.setNamesrvAddr(c.text("ns"));
        p.setMqClientApiTimeout(30_000);
        p.start();
        pull.put(c.text("h"), p);
        List<MessageQueue> queues = new ArrayList<>(p.fetchSubscribeMessageQueues(c.text("topic")));
        queues.sort(Comparator.comparingInt(MessageQueue::getQueueId));
        List<Object> names = new ArrayList<>();
        queues.forEach(q -> names.add(q.getBrokerName() + "/" + q.getQueueId()));
        Map<String, Object> f = new LinkedHashMap<>();
        f.put("queues", names);
        return f;
    }

    Map<String, Object> pull(Command c) throws Exception {
        DefaultMQPullConsumer p = pull.get(c.text("h"));
        PullResult r = c.has("hold")
            ? p.pullBlockIfNotFound(queue(c), c.text("tags", "*"), c.wide("offset"), c.number("count", 32))
            : p.pull(queue(c), c.text("tags", "*"), c.wide("offset"), c.number("count", 32));
        Map<String, Object> f = new LinkedHashMap<>();
        f.put("status", r.getPullStatus().name());
        f.put("next", r.getNextBeginOffset());
        f.put("min", r.getMinOffset());
        f.put("max", r.getMaxOffset());
        f.put("messages", facts(r.getMsgFoundList()));
        return f;
    }

    /** The offsets of a queue as the client can ask for them. */
    Map<String, Object> offsets(Command c) throws Exception {
        DefaultMQPullConsumer p = pull.get(c.text("h"));
        MessageQueue q = queue(c);
        if (c.has("store")) {
            p.updateConsumeOffset(q, c.wide("store"));
            p.getOffsetStore().persist(q);
        }
        Map<String, Object> f = new LinkedHashMap<>();
        f.put("min", p.minOffset(q));
        f.put("max", p.maxOffset(q));
        f.put("at", p.searchOffset(q, c.has("time") ? c.wide("time") : 0));
        f.put("earliest", p.earliestMsgStoreTime(q));
        f.put("committed", p.fetchConsumeOffset(q, true));
        return f;
    }

    boolean close(Command c) {
        DefaultLitePullConsumer l = lite.remove(c.text("h"));
        DefaultMQPullConsumer p = pull.remove(c.text("h"));
        if (l != null) {
            l.shutdown();
        }
        if (p != null) {
            p.shutdown();
        }
        return l != null || p != null;
    }
}
