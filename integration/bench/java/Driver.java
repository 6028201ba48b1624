import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * Sends with Apache's Java client in a closed loop, and drains topics with its push consumer. Each
 * line of the input is a command with one line as its answer:
 *
 * <pre>
 *   send NAMESERVER TOPIC BYTES CALLERS MILLIS
 *   drain NAMESERVER TOPIC MESSAGES MILLIS
 *   done MESSAGES NANOS P50_NANOS P99_NANOS CPU_NANOS
 *   failed WHY
 * </pre>
 *
 * A caller begins the next send when the one before has returned. There is one producer for each
 * name server; it lives until the input ends. A consumer is a new group that takes so many messages
 * within the time; from the first handler to the last is what counts, and it has no latencies.
 */
public final class Driver {
  /** How many latencies one caller keeps; what is beyond counts as a message only. */
  private static final int LATENCIES = 1 << 15;

  private final Map<String, DefaultMQProducer> producers = new HashMap<>();

  public static void main(String[] args) throws Exception {
    PrintStream answers = System.out;
    System.setOut(System.err); // what the client prints is no answer
    Driver driver = new Driver();
    BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = commands.readLine()) != null; ) {
      String answer;
      try {
        String[] words = line.split(" ");
        answer = words[0].equals("drain") ? drain(words) : driver.send(words);
      } catch (Exception e) {
        answer = "failed " + String.valueOf(e).replace('\n', ' ');
      }
      answers.println(answer);
      answers.flush();
    }
    driver.producers.values().forEach(DefaultMQProducer::shutdown);
    System.exit(0);
  }

  private String send(String[] words) throws Exception {
    DefaultMQProducer producer = producer(words[1]);
    String topic = words[2];
    byte[] body = new byte[Integer.parseInt(words[3])];
    new java.util.Random(1).nextBytes(body);
    int callers = Integer.parseInt(words[4]);
    long span = Long.parseLong(words[5]) * 1_000_000;

    OperatingSystemMXBean machine = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    ExecutorService pool = Executors.newFixedThreadPool(callers);
    try {
      Caller[] all = new Caller[callers];
      Future<?>[] ends = new Future<?>[callers];
      for (int i = 0; i < callers; i++) {
        all[i] = new Caller(producer, topic, body);
      }
      long cpu = machine.getProcessCpuTime();
      long begin = System.nanoTime();
      for (int i = 0; i < callers; i++) {
        all[i].end = begin + span;
        ends[i] = pool.submit(all[i]);
      }
      for (Future<?> end : ends) {
        end.get();
      }
      long took = System.nanoTime() - begin;
      cpu = machine.getProcessCpuTime() - cpu;
      long messages = Arrays.stream(all).mapToLong(c -> c.messages).sum();
      long[] sorted =
          Arrays.stream(all).flatMapToLong(c -> Arrays.stream(c.latencies, 0, c.kept())).sorted().toArray();
      return String.format(
          "done %d %d %d %d %d",
          messages, took, sorted[sorted.length / 2], sorted[(int) (sorted.length * 0.99)], cpu);
    } catch (ExecutionException e) {
      throw e.getCause() instanceof Exception ? (Exception) e.getCause() : e;
    } finally {
      pool.shutdown();
    }
  }

  private static String drain(String[] words) throws Exception {
    long messages = Long.parseLong(words[3]);
    AtomicLong seen = new AtomicLong();
    AtomicLong first = new AtomicLong();
    AtomicLong last = new AtomicLong();
    CountDownLatch done = new CountDownLatch(1);
    DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("java-" + words[2] + "-" + System.nanoTime()); // a new group
    consumer.setNamesrvAddr(words[1]);
    consumer.setInstanceName("drain-" + words[2]);
    consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
    consumer.subscribe(words[2], "*");
    consumer.registerMessageListener(
        (MessageListenerConcurrently)
            (some, context) -> {
              if (first.get() == 0) {
                first.compareAndSet(0, System.nanoTime());
              }
              if (seen.addAndGet(some.size()) == messages) {
                last.set(System.nanoTime());
                done.countDown();
              }
              return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
    OperatingSystemMXBean machine = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    long cpu = machine.getProcessCpuTime();
    consumer.start();
    try {
      if (!done.await(Long.parseLong(words[4]), TimeUnit.MILLISECONDS)) {
        throw new IllegalStateException("only " + seen + " of " + messages + " messages came");
      }
      cpu = machine.getProcessCpuTime() - cpu;
      return String.format("done %d %d 0 0 %d", messages, last.get() - first.get(), cpu);
    } finally {
      consumer.shutdown();
    }
  }

  private DefaultMQProducer producer(String nameServer) throws Exception {
    DefaultMQProducer p = producers.get(nameServer);
    if (p == null) {
      p = new DefaultMQProducer("bench-java");
      p.setNamesrvAddr(nameServer);
      p.setInstanceName("bench-" + nameServer.replace(':', '-'));
      p.setRetryTimesWhenSendFailed(0);
      p.start();
      producers.put(nameServer, p);
    }
    return p;
  }

  /** One caller. */
  private static final class Caller implements java.util.concurrent.Callable<Void> {
    private final DefaultMQProducer producer;
    private final String topic;
    private final byte[] body;
    private final long[] latencies = new long[LATENCIES];
    private long end; // set before the caller starts
    private long messages;

    Caller(DefaultMQProducer producer, String topic, byte[] body) {
      this.producer = producer;
      this.topic = topic;
      this.body = body;
    }

    int kept() {
      return (int) Math.min(messages, LATENCIES);
    }

    @Override
    public Void call() throws Exception {
      long now = System.nanoTime();
      do { // at least one, even if the machine lets this thread begin too late
        SendResult r = producer.send(new Message(topic, body));
        if (r.getSendStatus() != SendStatus.SEND_OK) {
          throw new IllegalStateException("send answered " + r.getSendStatus());
        }
        long then = System.nanoTime();
        if (messages < LATENCIES) {
          latencies[(int) messages] = then - now;
        }
        messages++;
        now = then;
      } while (now < end);
      return null;
    }
  }
}
