package interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/** The push consumers, by handle. */
final class Consumers {
    private static final class Open {
        DefaultMQPushConsumer consumer;
        DefaultMQProducer replies;
        boolean whole;
    }

    private final Map<String, Open> open = new ConcurrentHashMap<>();

    Map<String, Object> open(Command c) throws Exception {
        Open o = new Open();
        String handle = c.text("h");
        DefaultMQPushConsumer p = new DefaultMQPushConsumer(c.text("group"), Edition.signing(c.text("ak", null), c.text("sk", null)),
            new AllocateMessageQueueAveragely(), c.has("trace"), null);
        o.consumer = p;
        o.whole = c.has("whole");
        p.setNamesrvAddr(c.text("ns"));
        p.setMqClientApiTimeout(30_000);
        if (c.has("namespace")) {
            p.setNamespace(c.text("namespace"));
        }
        if (c.has("instance")) {
            p.setInstanceName(c.text("instance"));
        }
        if (c.has("broadcast")) {
            Edition.broadcasting(p);
        }
        if (c.has("max")) {
            p.setMaxReconsumeTimes(c.number("max", -1));
        }
        p.setConsumeMessageBatchMaxSize(c.number("batch", 1));
        p.setConsumeFromWhere(where(c.text("from", "first")));
        if (c.has("stamp")) {
            p.setConsumeTimestamp(c.text("stamp"));
        }
        if (c.has("sql")) {
            p.subscribe(c.text("topic"), MessageSelector.bySql(c.text("sql")));
        } else {
            p.subscribe(c.text("topic"), c.text("tags", "*"));
        }
        if (c.has("reply")) {
            o.replies = new DefaultMQProducer(c.text("group") + "-replies");
            o.replies.setNamesrvAddr(c.text("ns"));
            o.replies.setMqClientApiTimeout(30_000);
            o.replies.start();
        }
        if (c.has("orderly")) {
            p.registerMessageListener((MessageListenerOrderly) (ms, x) -> orderly(handle, ms, x));
        } else {
            p.registerMessageListener((MessageListenerConcurrently) (ms, x) -> concurrently(handle, o, ms, x));
        }
        if (c.has("paused")) {
            p.suspend();
        }
        p.start();
        open.put(handle, o);
        return null;
    }

    private static ConsumeFromWhere where(String word) {
        switch (word) {
            case "first": return ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET;
            case "last": return ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET;
            default: return ConsumeFromWhere.CONSUME_FROM_TIMESTAMP;
        }
    }

    /** What the message wants done with its present attempt: the item of its property act. */
    private static String action(MessageExt m) {
        String all = m.getUserProperty("act");
        if (all == null) {
            return "ok";
        }
        String[] items = all.split(",");
        return m.getReconsumeTimes() < items.length ? items[m.getReconsumeTimes()] : "ok";
    }

    private static void tell(String handle, MessageExt m, String did, int batch, boolean whole) {
        Map<String, Object> f = Facts.of(m, whole);
        f.put("did", did);
        f.put("batch", batch);
        Out.event("got", handle, f);
    }

    private static ConsumeConcurrentlyStatus concurrently(String handle, Open o, List<MessageExt> ms, ConsumeConcurrentlyContext x) throws RuntimeException {
        ConsumeConcurrentlyStatus status = ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        for (MessageExt m : ms) {
            String did = action(m);
            tell(handle, m, did, ms.size(), o.whole);
            if (did.startsWith("later")) {
                status = ConsumeConcurrentlyStatus.RECONSUME_LATER;
                if (did.startsWith("later:")) {
                    x.setDelayLevelWhenNextConsume(Integer.parseInt(did.substring(6)));
                }
            } else if (did.equals("throw")) {
                throw new IllegalStateException("the listener failed");
            } else if (did.equals("null")) {
                status = null;
            }
            if (o.replies != null) {
                try {
                    o.replies.send(MessageUtil.createReplyMessage(m, ("re:" + new String(m.getBody())).getBytes()), 3000);
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            }
        }
        return status;
    }

    private static ConsumeOrderlyStatus orderly(String handle, List<MessageExt> ms, ConsumeOrderlyContext x) {
        ConsumeOrderlyStatus status = ConsumeOrderlyStatus.SUCCESS;
        for (MessageExt m : ms) {
            String did = action(m);
            tell(handle, m, did, ms.size(), false);
            if (did.equals("suspend")) {
                status = ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
        }
        return status;
    }

    Map<String, Object> suspend(Command c, boolean on) {
        Open o = open.get(c.text("h"));
        if (on) {
            o.consumer.suspend();
        } else {
            o.consumer.resume();
        }
        return null;
    }

    boolean close(Command c) {
        Open o = open.remove(c.text("h"));
        if (o == null) {
            return false;
        }
        o.consumer.shutdown();
        if (o.replies != null) {
            o.replies.shutdown();
        }
        return true;
    }
}
