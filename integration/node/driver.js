'use strict';

// Runs ali-ons for the tests, as a separate process: commands come on standard
// input, one a line (`verb key=value key=value`, values percent-encoded), and are
// answered on standard output as JSON lines with the id of the command; what
// listeners see is told in between as events.

const readline = require('readline');
const { Consumer, Producer, Message } = require('ali-ons');
const httpclient = require('urllib');

const out = process.stdout.write.bind(process.stdout);
const line = fields => out(JSON.stringify(fields) + '\n');
const silent = { debug() {}, info() {}, warn() {}, error() {}, write() {} };
const open = new Map();

function facts(m) {
  return {
    topic: m.topic,
    tags: m.tags || null,
    keys: m.keys || null,
    body: m.body.length <= 64 ? m.body.toString() : `${m.body.toString().slice(0, 64)}#${m.body.length}`,
    flag: m.flag,
    props: m.properties,
    queue: m.queueId,
    offset: Number(m.queueOffset),
    reconsume: m.reconsumeTimes,
    sysFlag: m.sysFlag,
    born: Number(m.bornTimestamp),
    bornHost: String(m.bornHost).split(':')[0],
    store: Number(m.storeTimestamp),
    storeHost: String(m.storeHost),
    msgId: m.msgId,
  };
}

function options(c, group) {
  const o = { httpclient, logger: silent, nameSrv: c.ns, instanceName: c.h, namespace: c.namespace || '' };
  if (c.ak) {
    o.accessKeyId = c.ak;
    o.accessKeySecret = c.sk;
  }
  o[group] = c.group;
  return o;
}

// action is what the message wants done with its present attempt.
function action(m) {
  const items = (m.properties.act || 'ok').split(',');
  return items[m.reconsumeTimes] || 'ok';
}

const verbs = {
  async producer(c) {
    const p = new Producer(Object.assign(options(c, 'producerGroup'), { retryTimesWhenSendFailed: Number(c.retry || 2), sendMsgTimeout: 30000 }));
    p.on('error', e => line({ event: 'complaint', on: c.h, text: e.message }));
    await p.ready();
    open.set(c.h, p);
  },

  async send(c) {
    const text = c.body.padEnd(Number(c.fill || 0), '.');
    const m = new Message(c.topic, c.tags || null, text);
    if (!c.tags) delete m.properties.TAGS;
    if (c.keys) m.keys = [ c.keys ];
    if (c.delay) m.delayTimeLevel = Number(c.delay);
    m.flag = Number(c.flag || 0);
    for (const name of Object.keys(c)) {
      if (name.startsWith('prop.')) m.properties[name.slice(5)] = c[name];
    }
    const r = await open.get(c.h).send(m);
    return { status: r.sendStatus, msgId: r.msgId, offsetMsgId: r.msgId, queue: r.messageQueue.queueId, broker: r.messageQueue.brokerName,
      topic: r.messageQueue.topic, offset: Number(r.queueOffset) };
  },

  async push(c) {
    const o = Object.assign(options(c, 'consumerGroup'), { isBroadcast: 'broadcast' in c, consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET' });
    if (c.max) o.maxReconsumeTimes = Number(c.max);
    const consumer = new Consumer(o);
    consumer.on('error', e => line({ event: 'complaint', on: c.h, text: e.message }));
    await consumer.ready();
    consumer.subscribe(c.topic, c.sql ? { expressionType: 'SQL92', subString: c.sql } : c.tags || '*', async m => {
      const did = action(m);
      line(Object.assign({ event: 'got', on: c.h, at: Date.now(), did, batch: 1 }, facts(m)));
      if (did === 'later') return Consumer.ACTION_RETRY;
      if (did === 'throw') throw new Error('the listener failed');
      return undefined;
    });
    open.set(c.h, consumer);
  },

  async close(c) {
    await open.get(c.h).close();
    open.delete(c.h);
  },
};

line({ event: 'ready', on: 'node' });
readline.createInterface({ input: process.stdin }).on('line', async text => {
  const words = text.trim().split(' ');
  const c = {};
  for (const w of words.slice(1)) {
    const at = w.indexOf('=');
    c[w.slice(0, at)] = decodeURIComponent(w.slice(at + 1).replace(/\+/g, ' '));
  }
  const result = { id: Number(c.id) };
  try {
    if (!verbs[words[0]]) throw new Error('unknown verb ' + words[0]);
    Object.assign(result, await verbs[words[0]](c));
  } catch (e) {
    Object.assign(result, { error: e.message, class: e.name, code: Number(e.code) || 0 });
  }
  line(result);
}).on('close', () => process.exit(0));
for (const name of [ 'unhandledRejection', 'uncaughtException' ]) {
  process.on(name, e => line({ event: 'complaint', on: 'node', text: String(e && e.message) }));
}
