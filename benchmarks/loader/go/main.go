// loader is the Go service that the provider's loader takes the place of: franz-go reads JSON samples from a
// topic, gocql writes them to Cassandra, and offsets are committed after the writes of each poll.
//
// The last line it prints is one JSON object with what the run took, from the first record to the last commit.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

type config struct {
	brokers, hosts, keyspace, table, topic, group, mode string
	par, batch, micro, limit                            int
	idle                                                time.Duration
	wide                                                bool
}

func parseFlags() config {
	var c config
	flag.StringVar(&c.brokers, "brokers", "127.0.0.1:9092", "Kafka bootstrap servers, comma-separated")
	flag.StringVar(&c.hosts, "hosts", "127.0.0.1:9042", "Cassandra contact points, comma-separated")
	flag.StringVar(&c.keyspace, "keyspace", "metrics", "keyspace")
	flag.StringVar(&c.table, "table", "system_metrics", "table with primary key ((host, day), timestamp)")
	flag.StringVar(&c.topic, "topic", "system_metrics", "topic of JSON samples")
	flag.StringVar(&c.group, "group", "loader", "consumer group")
	flag.StringVar(&c.mode, "mode", "batch", "batch: UNLOGGED batches of one partition; conc: one row a request")
	flag.IntVar(&c.par, "par", 32, "requests in flight")
	flag.IntVar(&c.batch, "batch", 50, "most rows in a batch")
	flag.IntVar(&c.micro, "micro", 20000, "most records a poll")
	flag.IntVar(&c.limit, "limit", 0, "rows to load before it ends")
	flag.DurationVar(&c.idle, "idle", 30*time.Second, "fail after so long without a record")
	flag.BoolVar(&c.wide, "wide", false, "all columns of a full sample, not only the first eight")
	flag.Parse()
	return c
}

func main() {
	c := parseFlags()
	session, err := connect(c)
	if err != nil {
		log.Fatalf("connect to Cassandra at %s: %v", c.hosts, err)
	}
	defer session.Close()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(c.brokers, ",")...),
		kgo.ConsumerGroup(c.group),
		kgo.ConsumeTopics(c.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	)
	if err != nil {
		log.Fatalf("make a Kafka client: %v", err)
	}
	defer client.Close()
	taken, err := load(context.Background(), client, newWriter(session, c), c)
	if err != nil {
		log.Fatalf("load %s into %s.%s: %v", c.topic, c.keyspace, c.table, err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(taken); err != nil {
		log.Fatal(err)
	}
}

func connect(c config) (*gocql.Session, error) {
	cluster := gocql.NewCluster(strings.Split(c.hosts, ",")...)
	cluster.Keyspace = c.keyspace
	cluster.Consistency = gocql.LocalQuorum
	cluster.Timeout = 30 * time.Second
	cluster.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(gocql.RoundRobinHostPolicy())
	return cluster.CreateSession()
}

// load reads until limit rows are stored, in polls whose offsets are committed once all their rows are.
func load(ctx context.Context, client *kgo.Client, w *writer, c config) (*usage, error) {
	var meter *meter
	rows := 0
	for rows < c.limit {
		fetches, err := poll(ctx, client, c)
		if err != nil {
			return nil, err
		}
		if meter == nil {
			meter = startMeter()
		}
		decoded, err := decodeAll(fetches, w.columns)
		if err != nil {
			return nil, err
		}
		if err := w.write(ctx, decoded); err != nil {
			return nil, err
		}
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			return nil, fmt.Errorf("commit: %w", err)
		}
		rows += len(decoded)
	}
	if meter == nil {
		return nil, fmt.Errorf("-limit %d leaves nothing to load", c.limit)
	}
	return meter.stop(rows)
}

func poll(ctx context.Context, client *kgo.Client, c config) (kgo.Fetches, error) {
	ctx, cancel := context.WithTimeout(ctx, c.idle)
	defer cancel()
	fetches := client.PollRecords(ctx, c.micro)
	if err := fetches.Err(); err != nil {
		return nil, fmt.Errorf("poll: %w", err)
	}
	return fetches, nil
}

func decodeAll(fetches kgo.Fetches, columns []column) ([]row, error) {
	rows := make([]row, 0, fetches.NumRecords())
	for records := fetches.RecordIter(); !records.Done(); {
		record := records.Next()
		decoded, err := decode(record.Value, columns)
		if err != nil {
			return nil, fmt.Errorf("%s[%d] offset %d: %w", record.Topic, record.Partition, record.Offset, err)
		}
		rows = append(rows, decoded)
	}
	return rows, nil
}

// writer sends rows with a bounded number of requests in flight.
type writer struct {
	session *gocql.Session
	columns []column
	insert  string
	par     int
	// group cuts the rows of a poll into requests.
	group func([]row) [][]row
}

func newWriter(session *gocql.Session, c config) *writer {
	columns := narrow
	if c.wide {
		columns = append(append([]column{}, narrow...), wide...)
	}
	names := []string{"host", "day", "timestamp"}
	for _, col := range columns {
		names = append(names, col.name)
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(names)), ", ")
	insert := fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", c.table, strings.Join(names, ", "), marks)
	w := &writer{session: session, columns: columns, insert: insert, par: c.par}
	switch c.mode {
	case "batch":
		w.group = func(rows []row) [][]row { return byPartition(rows, c.batch) }
	case "conc":
		w.group = singly
	default:
		log.Fatalf("-mode is %q: use batch or conc", c.mode)
	}
	return w
}

// write stores all rows, or returns the first error.
func (w *writer) write(ctx context.Context, rows []row) error {
	requests := make(chan []row)
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error {
		defer close(requests)
		for _, request := range w.group(rows) {
			select {
			case requests <- request:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range w.par {
		tasks.Go(func() error {
			for request := range requests {
				if err := w.send(ctx, request); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return tasks.Wait()
}

func (w *writer) send(ctx context.Context, rows []row) error {
	if len(rows) == 1 {
		return w.session.Query(w.insert, rows[0].values...).ExecContext(ctx)
	}
	batch := w.session.Batch(gocql.UnloggedBatch)
	for _, r := range rows {
		batch.Query(w.insert, r.values...)
	}
	return batch.ExecContext(ctx)
}

func singly(rows []row) [][]row {
	requests := make([][]row, len(rows))
	for i := range rows {
		requests[i] = rows[i : i+1]
	}
	return requests
}

// byPartition gathers up to size rows of one partition into each request.
func byPartition(rows []row, size int) [][]row {
	type partition struct {
		host string
		day  time.Time
	}
	partitions := make(map[partition][]row)
	for _, r := range rows {
		key := partition{r.host, r.day}
		partitions[key] = append(partitions[key], r)
	}
	requests := make([][]row, 0, len(partitions))
	for _, group := range partitions {
		for len(group) > size {
			requests = append(requests, group[:size])
			group = group[size:]
		}
		requests = append(requests, group)
	}
	return requests
}
