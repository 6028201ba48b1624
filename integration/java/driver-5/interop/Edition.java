package interop;

import org.apache.rocketmq.acl.common.AclClientRPCHook;
import org.apache.rocketmq.acl.common.SessionCredentials;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;

/** What differs between the client's lines: here 5.x. */
final class Edition {
    static final String NAME = "5";

    private Edition() {
    }

    static RPCHook signing(String accessKey, String secretKey) {
        return accessKey == null ? null : new AclClientRPCHook(new SessionCredentials(accessKey, secretKey));
    }

    static void broadcasting(DefaultMQPushConsumer c) {
        c.setMessageModel(MessageModel.BROADCASTING);
    }

    static void compression(DefaultMQProducer p, String name) {
        p.setCompressType(CompressionType.of(name));
    }

    static void timer(Message m, String kind, long value) {
        switch (kind) {
            case "seconds":
                m.setDelayTimeSec(value);
                break;
            case "millis":
                m.setDelayTimeMs(value);
                break;
            default:
                m.setDeliverTimeMs(value);
        }
    }

    static int code(Throwable e) {
        return e instanceof MQBrokerException ? ((MQBrokerException) e).getResponseCode()
            : e instanceof MQClientException ? ((MQClientException) e).getResponseCode() : 0;
    }
}
