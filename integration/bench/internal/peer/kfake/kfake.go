// Package kfake drives franz-go against kfake, which speaks Kafka's protocol
// over loopback in this process and stores in a folder.
package kfake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const (
	topic = "bench"
	// buffered is how many records a client holds that have no answer.
	buffered = 1 << 16
	// polled is how many records a consumer takes, and commits, at a time.
	polled = 512
	// fetchWait is how long a fetch that finds nothing is held; a record that
	// comes ends it at once.
	fetchWait = 100 * time.Millisecond
	// mark is the stamp of records that only ask whether the consumer is there.
	mark = -1
	// joinLimit is how long a consumer may take until it gets records.
	joinLimit = 40 * time.Second
)

// Cluster is one broker, with a topic of one partition, and the client of its
// producers.
type Cluster struct {
	cluster  *kfake.Cluster
	producer *kgo.Client
}

// start makes a broker that stores in dir; it syncs nothing before it answers.
func start(dir string) (*Cluster, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic), kfake.DataDir(dir))
	if err != nil {
		return nil, fmt.Errorf("start kfake: %w", err)
	}
	k := &Cluster{cluster: c}
	if k.producer, err = k.client(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// client makes a client that does not compress, as nobody here does.
func (k *Cluster) client(more ...kgo.Opt) (*kgo.Client, error) {
	c, err := kgo.NewClient(append(more, kgo.SeedBrokers(k.cluster.ListenAddrs()...), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(buffered))...)
	if err != nil {
		return nil, fmt.Errorf("make client of kfake: %w", err)
	}
	return c, nil
}

// Close ends client and broker.
func (k *Cluster) Close() error {
	if k.producer != nil {
		k.producer.Close()
	}
	k.cluster.Close()
	return nil
}

// Window sends a window of records and waits for the answers to all of them.
type Window struct {
	*Cluster
	body    []byte
	size    int
	answers []chan error // by worker
}

// NewWindow is a [measure.Publisher] in dir for so many workers.
func NewWindow(dir string, workers, size int) (*Window, error) {
	k, err := start(dir)
	if err != nil {
		return nil, err
	}
	w := &Window{k, measure.Body(), size, make([]chan error, workers)}
	for i := range w.answers {
		w.answers[i] = make(chan error, size)
	}
	return w, nil
}

// Publish stores the window of a worker.
func (k *Window) Publish(worker int) (int, error) {
	answers := k.answers[worker]
	for range k.size {
		k.producer.Produce(context.Background(), &kgo.Record{Value: k.body}, func(_ *kgo.Record, err error) { answers <- err })
	}
	var err error
	for range k.size {
		if e := <-answers; err == nil {
			err = e
		}
	}
	return k.size, err
}

// Pipeline is publishers that share a client, and a consumer that commits what
// it has handled.
type Pipeline struct {
	*Cluster
	body     []byte
	wait     bool
	consumer *kgo.Client
	stop     context.CancelFunc
	ended    chan struct{}
}

// NewPipeline is a [measure.Pipeline] in dir that reports to f. With wait
// publishers wait for each answer.
func NewPipeline(dir string, f *measure.Flow, wait bool) (*Pipeline, error) {
	k, err := start(dir)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{Cluster: k, body: measure.Body(), wait: wait, ended: make(chan struct{})}
	p.consumer, err = k.client(kgo.ConsumerGroup("bench"), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.FetchMaxWait(fetchWait))
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	there := make(chan struct{}, 1)
	go p.consume(ctx, f, there)
	if err := p.join(there); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// consume handles records until ctx ends.
func (p *Pipeline) consume(ctx context.Context, f *measure.Flow, there chan<- struct{}) {
	defer close(p.ended)
	for ctx.Err() == nil {
		records := p.consumer.PollRecords(ctx, polled).Records()
		n := 0
		for _, r := range records {
			if measure.Stamp(r.Value) != mark {
				f.Handled(r.Value)
				n++
				continue
			}
			select {
			case there <- struct{}{}:
			default:
			}
		}
		if len(records) > 0 && p.consumer.CommitRecords(ctx, records[len(records)-1]) == nil {
			f.Settled(n)
		}
	}
}

// join sends marks until the consumer has got one.
func (p *Pipeline) join(there <-chan struct{}) error {
	limit := time.After(joinLimit)
	for {
		if err := p.send(mark); err != nil {
			return err
		}
		select {
		case <-there:
			return nil
		case <-limit:
			return fmt.Errorf("the consumer gets nothing for %v", joinLimit)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Publish sends one record, and with wait waits for the answer.
func (p *Pipeline) Publish(_ int, stamp int64) error {
	if p.wait {
		return p.send(stamp)
	}
	p.producer.Produce(context.Background(), p.record(stamp), nil)
	return nil
}

func (p *Pipeline) send(stamp int64) error {
	return p.producer.ProduceSync(context.Background(), p.record(stamp)).FirstErr()
}

func (p *Pipeline) record(stamp int64) *kgo.Record {
	body := slices.Clone(p.body)
	measure.PutStamp(body, stamp)
	return &kgo.Record{Value: body}
}

// Close ends everything.
func (p *Pipeline) Close() error {
	p.stop()
	<-p.ended
	p.consumer.Close()
	return p.Cluster.Close()
}
