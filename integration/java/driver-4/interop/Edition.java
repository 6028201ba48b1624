package interop;

import org.apache.rocketmq.acl.common.AclClientRPCHook;
import org.apache.rocketmq.acl.common.SessionCredentials;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.protocol.heartbeat.MessageModel;
import org.apache.rocketmq.remoting.RPCHook;

/** What differs between the client's lines: here 4.x. */
final class Edition {
    static final String NAME = "4";

    private Edition() {
    }

    static RPCHook signing(String accessKey, String secretKey) {
        return accessKey == null ? null : new AclClientRPCHook(new SessionCredentials(accessKey, secretKey));
    }

    static void broadcasting(DefaultMQPushConsumer c) {
        c.setMessageModel(MessageModel.BROADCASTING);
    }

    static void compression(DefaultMQProducer p, String name) {
        if (!name.equalsIgnoreCase("zlib")) {
            throw new UnsupportedOperationException("4.x knows zlib only");
        }
    }

    /** 4.x has no methods for timers; the properties are what a server sees of them. */
    static void timer(Message m, String kind, long value) {
        switch (kind) {
            case "seconds":
                MessageAccessor.putProperty(m, "TIMER_DELAY_SEC", Long.toString(value));
                break;
            case "millis":
                MessageAccessor.putProperty(m, "TIMER_DELAY_MS", Long.toString(value));
                break;
            default:
                MessageAccessor.putProperty(m, "TIMER_DELIVER_MS", Long.toString(value));
        }
    }

    static int code(Throwable e) {
        return e instanceof MQBrokerException ? ((MQBrokerException) e).getResponseCode()
            : e instanceof MQClientException ? ((MQClientException) e).getResponseCode() : 0;
    }
}
