package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.MessageQueueSelector;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.RPCHook;

/** The producers, by handle. */
final class Producers {
    /** Chooses the queue whose number is the argument, or by the hash of a key. */
    private static final MessageQueueSelector BY_ARGUMENT = (queues, m, arg) -> arg instanceof Integer
        ? queues.stream().filter(q -> q.getQueueId() == (Integer) arg).findFirst().orElseThrow(() -> new IllegalArgumentException("no queue " + arg))
        : queues.get(Math.floorMod(arg.hashCode(), queues.size()));

    private final Map<String, DefaultMQProducer> open = new ConcurrentHashMap<>();

    Map<String, Object> open(Command c) throws Exception {
        RPCHook hook = Edition.signing(c.text("ak", null), c.text("sk", null));
        DefaultMQProducer p;
        if (c.has("tx")) {
            TransactionMQProducer t = new TransactionMQProducer(c.text("group"), hook);
            t.setTransactionListener(new Transactions(c.text("h")));
            p = t;
        } else {
            p = new DefaultMQProducer(c.text("group"), hook, c.has("trace"), null);
        }
        p.setNamesrvAddr(c.text("ns"));
        if (c.has("namespace")) {
            p.setNamespace(c.text("namespace"));
        }
        p.setMqClientApiTimeout(30_000);
        if (c.has("instance")) {
            p.setInstanceName(c.text("instance"));
        }
        p.setSendMsgTimeout(c.number("timeout", 30_000));
        p.setRetryTimesWhenSendFailed(c.number("retry", 2));
        p.setCompressMsgBodyOverHowmuch(c.number("over", 4096));
        if (c.has("compress")) {
            Edition.compression(p, c.text("compress"));
        }
        p.start();
        open.put(c.text("h"), p);
        return null;
    }

    boolean close(Command c) {
        DefaultMQProducer p = open.remove(c.text("h"));
        if (p != null) {
            p.shutdown();
        }
        return p != null;
    }

    private DefaultMQProducer of(Command c) {
        DefaultMQProducer p = open.get(c.text("h"));
        if (p == null) {
            throw new IllegalArgumentException("no producer " + c.text("h"));
        }
        return p;
    }

    Map<String, Object> send(Command c) throws Exception {
        DefaultMQProducer p = of(c);
        Object choice = c.has("queue") ? (Object) c.number("queue", 0) : c.text("shard", null);
        Message m = Facts.message(c, c.text("body"));
        switch (c.text("mode", "sync")) {
            case "sync":
                return Facts.of(choice == null ? p.send(m) : p.send(m, BY_ARGUMENT, choice));
            case "async":
                return Facts.of(async(p, m, choice));
            case "oneway":
                if (choice == null) {
                    p.sendOneway(m);
                } else {
                    p.sendOneway(m, BY_ARGUMENT, choice);
                }
                return null;
            case "batch":
                List<Message> all = new ArrayList<>();
                for (String body : c.text("body").split(",")) {
                    all.add(Facts.message(c, body));
                }
                return Facts.of(p.send(all));
            case "tx":
                TransactionSendResult r = ((TransactionMQProducer) p).sendMessageInTransaction(m, null);
                Map<String, Object> facts = Facts.of(r);
                facts.put("state", r.getLocalTransactionState().name());
                return facts;
            case "request":
                long before = System.currentTimeMillis();
                Message reply = p.request(m, c.number("ttl", 3000));
                Map<String, Object> got = new LinkedHashMap<>();
                got.put("reply", Facts.body(reply.getBody()));
                got.put("props", reply.getProperties());
                got.put("took", System.currentTimeMillis() - before);
                return got;
            default:
                throw new IllegalArgumentException("unknown mode");
        }
    }

    private static SendResult async(DefaultMQProducer p, Message m, Object choice) throws Exception {
        CompletableFuture<SendResult> done = new CompletableFuture<>();
        SendCallback callback = new SendCallback() {
            @Override
            public void onSuccess(SendResult r) {
                done.complete(r);
            }

            @Override
            public void onException(Throwable e) {
                done.completeExceptionally(e);
            }
        };
        if (choice == null) {
            p.send(m, callback);
        } else {
            p.send(m, BY_ARGUMENT, choice, callback);
        }
        return done.get(60, TimeUnit.SECONDS);
    }

    /** Sends many small messages, spread over keys; all of a key go to one queue, in order, from one thread. */
    Map<String, Object> bulk(Command c) throws Exception {
        DefaultMQProducer p = of(c);
        int count = c.number("count", 0);
        int keys = c.number("keys", 1);
        int workers = c.number("workers", 1);
        AtomicInteger acknowledged = new AtomicInteger();
        CompletableFuture<?>[] running = new CompletableFuture<?>[workers];
        for (int w = 0; w < workers; w++) {
            int mine = w;
            running[w] = CompletableFuture.runAsync(() -> {
                try {
                    for (int n = 0; n < count / keys; n++) {
                        for (int key = mine; key < keys; key += workers) {
                            p.send(new Message(c.text("topic"), null, "k" + key, (key + ":" + n).getBytes()), BY_ARGUMENT, "k" + key);
                            acknowledged.incrementAndGet();
                        }
                    }
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            }, r -> new Thread(r).start());
        }
        CompletableFuture.allOf(running).get();
        Map<String, Object> result = new LinkedHashMap<>();
        result.put("acknowledged", acknowledged.get());
        return result;
    }

    /** Decides by the message's own properties: local, and check with an item for each time it is asked. */
    private static final class Transactions implements TransactionListener {
        private final String handle;
        private final Map<String, AtomicInteger> checks = new ConcurrentHashMap<>();

        Transactions(String handle) {
            this.handle = handle;
        }

        @Override
        public LocalTransactionState executeLocalTransaction(Message m, Object arg) {
            Map<String, Object> f = new LinkedHashMap<>();
            f.put("body", Facts.body(m.getBody()));
            f.put("transactionId", m.getTransactionId());
            Out.event("local", handle, f);
            return state(m.getUserProperty("local"));
        }

        @Override
        public LocalTransactionState checkLocalTransaction(MessageExt m) {
            int n = checks.computeIfAbsent(m.getTransactionId(), k -> new AtomicInteger()).getAndIncrement();
            Map<String, Object> f = Facts.of(m);
            f.put("number", n + 1);
            Out.event("check", handle, f);
            List<String> answers = Arrays.asList(m.getUserProperty("check").split(","));
            return state(answers.get(Math.min(n, answers.size() - 1)));
        }

        private static LocalTransactionState state(String word) {
            switch (word) {
                case "commit": return LocalTransactionState.COMMIT_MESSAGE;
                case "rollback": return LocalTransactionState.ROLLBACK_MESSAGE;
                case "unknown": return LocalTransactionState.UNKNOW;
                default: throw new IllegalStateException("the local transaction failed");
            }
        }
    }
}
