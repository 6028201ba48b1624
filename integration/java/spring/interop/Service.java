package interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.spring.annotation.ConsumeMode;
import org.apache.rocketmq.spring.annotation.RocketMQMessageListener;
import org.apache.rocketmq.spring.annotation.RocketMQTransactionListener;
import org.apache.rocketmq.spring.core.RocketMQListener;
import org.apache.rocketmq.spring.core.RocketMQLocalTransactionListener;
import org.apache.rocketmq.spring.core.RocketMQLocalTransactionState;
import org.apache.rocketmq.spring.core.RocketMQTemplate;
import org.apache.rocketmq.spring.support.RocketMQHeaders;
import org.springframework.boot.Banner;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.messaging.Message;
import org.springframework.messaging.support.MessageBuilder;
import org.springframework.stereotype.Component;

/**
 * A service as users of the starter write it, driven by lines on standard input like the other drivers. A line
 * {@code start ns=...} brings the context up against one server, {@code stop} takes it down, so that one process
 * serves both sides of a comparison.
 */
@SpringBootApplication
public class Service {
    /** The value type that travels as JSON. */
    public static class Order {
        public String name;
        public int amount;
    }

    @Component
    @RocketMQMessageListener(topic = "spring-orders", consumerGroup = "spring-orders-g", selectorExpression = "paid || open")
    public static class Orders implements RocketMQListener<Order> {
        @Override
        public void onMessage(Order o) {
            Map<String, Object> f = new LinkedHashMap<>();
            f.put("body", o.name + "=" + o.amount);
            Out.event("got", "orders", f);
        }
    }

    @Component
    @RocketMQMessageListener(topic = "spring-raw", consumerGroup = "spring-raw-g", maxReconsumeTimes = 2)
    public static class Raw implements RocketMQListener<MessageExt> {
        @Override
        public void onMessage(MessageExt m) {
            Out.event("got", "raw", Facts.of(m));
            String body = Facts.body(m.getBody());
            if (body.startsWith("poison") || body.startsWith("once") && m.getReconsumeTimes() == 0) {
                throw new IllegalStateException("the listener failed");
            }
        }
    }

    @Component
    @RocketMQMessageListener(topic = "spring-ordered", consumerGroup = "spring-ordered-g", consumeMode = ConsumeMode.ORDERLY)
    public static class Ordered implements RocketMQListener<MessageExt> {
        @Override
        public void onMessage(MessageExt m) {
            Out.event("got", "ordered", Facts.of(m));
        }
    }

    @Component
    @RocketMQMessageListener(topic = "spring-tx", consumerGroup = "spring-tx-g")
    public static class Committed implements RocketMQListener<MessageExt> {
        @Override
        public void onMessage(MessageExt m) {
            Out.event("got", "tx", Facts.of(m));
        }
    }

    @RocketMQTransactionListener
    public static class Transactions implements RocketMQLocalTransactionListener {
        private final Map<String, AtomicInteger> checks = new HashMap<>();

        @Override
        public RocketMQLocalTransactionState executeLocalTransaction(Message m, Object argument) {
            Map<String, Object> f = new LinkedHashMap<>();
            f.put("body", new String((byte[]) m.getPayload(), StandardCharsets.UTF_8));
            Out.event("local", "tx", f);
            return state((String) m.getHeaders().get("local"));
        }

        @Override
        public synchronized RocketMQLocalTransactionState checkLocalTransaction(Message m) {
            Map<String, Object> f = new LinkedHashMap<>();
            String body = new String((byte[]) m.getPayload(), StandardCharsets.UTF_8);
            f.put("body", body);
            f.put("number", checks.computeIfAbsent(body, k -> new AtomicInteger()).incrementAndGet());
            Out.event("check", "tx", f);
            return state((String) m.getHeaders().get("check"));
        }

        private static RocketMQLocalTransactionState state(String word) {
            return RocketMQLocalTransactionState.valueOf(word.toUpperCase());
        }
    }

    private ConfigurableApplicationContext context;

    private Map<String, Object> run(Command c) throws Exception {
        switch (c.verb) {
            case "start":
                Map<String, Object> properties = new HashMap<>();
                properties.put("rocketmq.name-server", c.text("ns"));
                properties.put("rocketmq.producer.group", "spring-p");
                properties.put("rocketmq.producer.send-message-timeout", 30_000);
                properties.put("logging.level.root", "ERROR");
                context = new SpringApplicationBuilder(Service.class).bannerMode(Banner.Mode.OFF).properties(properties).run();
                return null;
            case "stop":
                context.close();
                return null;
            case "send":
                return Facts.of(send(context.getBean(RocketMQTemplate.class), c));
            case "convert":
                Order o = new Order();
                o.name = c.text("name");
                o.amount = c.number("amount", 0);
                context.getBean(RocketMQTemplate.class).convertAndSend(c.text("to"), o);
                return null;
            default:
                throw new IllegalArgumentException("unknown verb " + c.verb);
        }
    }

    private static SendResult send(RocketMQTemplate template, Command c) throws Exception {
        MessageBuilder<String> builder = MessageBuilder.withPayload(c.text("body"));
        if (c.has("keys")) {
            builder.setHeader(RocketMQHeaders.KEYS, c.text("keys"));
        }
        c.under("prop.").forEach(builder::setHeader);
        Message<String> m = builder.build();
        switch (c.text("mode")) {
            case "sync":
                return template.syncSend(c.text("to"), m);
            case "delay":
                return template.syncSend(c.text("to"), m, 30_000, c.number("delay", 1));
            case "ordered":
                return template.syncSendOrderly(c.text("to"), m, c.text("shard"));
            case "tx":
                return template.sendMessageInTransaction(c.text("to"), m, null);
            default:
                CompletableFuture<SendResult> done = new CompletableFuture<>();
                template.asyncSend(c.text("to"), m, new SendCallback() {
                    @Override
                    public void onSuccess(SendResult r) {
                        done.complete(r);
                    }

                    @Override
                    public void onException(Throwable e) {
                        done.completeExceptionally(e);
                    }
                });
                return done.get(30, TimeUnit.SECONDS);
        }
    }

    public static void main(String[] args) throws Exception {
        System.setOut(System.err);
        Service service = new Service();
        Map<String, Object> hello = new LinkedHashMap<>();
        hello.put("event", "ready");
        hello.put("on", "spring");
        Out.line(hello);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            Command c = new Command(line);
            Map<String, Object> result = new LinkedHashMap<>();
            result.put("id", c.number("id", 0));
            try {
                Map<String, Object> fields = service.run(c);
                if (fields != null) {
                    result.putAll(fields);
                }
            } catch (Throwable e) {
                result.put("error", e.toString());
            }
            Out.line(result);
        }
        Runtime.getRuntime().halt(0);
    }
}
