// A candidate of the fault suite on concurrency.Election of etcd's own Go client.
//
// Its argument, its commands and its journal have the form of tests/faults/subject.py: JSON, "- resign" and "- stop" on
// standard input, and one JSON object a line with timestamps of CLOCK_BOOTTIME.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	askEvery   = 4 * time.Millisecond
	stillEvery = 50 * time.Millisecond
	writeEvery = 120 * time.Millisecond
	tryAgain   = 200 * time.Millisecond
	patience   = time.Second
)

type options struct {
	Election  string   `json:"election"`
	Register  string   `json:"register"`
	Name      string   `json:"name"`
	Journal   string   `json:"journal"`
	Endpoints []string `json:"endpoints"`
	Lease     float64  `json:"lease"`
}

type facts map[string]any

type candidate struct {
	options  options
	client   *clientv3.Client
	journal  *os.File
	commands chan string
	token    atomic.Int64 // the token with which it leads, or 0
	writes   int
}

func now() float64 {
	var t unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_BOOTTIME, &t))
	return float64(t.Nano()) / 1e9
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// write appends one line with one write, so that it survives SIGKILL.
func (c *candidate) write(kind string, words facts) {
	words["kind"], words["election"], words["at"] = kind, "", now()
	line, err := json.Marshal(words)
	check(err)
	_, err = c.journal.Write(append(line, '\n'))
	check(err)
}

func (c *candidate) failed(err error) {
	c.write("error", facts{"error": fmt.Sprintf("Go: %v", err)})
	time.Sleep(tryAgain)
}

// noteRenewals records when a keep-alive of the lease was answered, while it leads.
func (c *candidate) noteRenewals(answers <-chan *clientv3.LeaseKeepAliveResponse) {
	for range answers {
		if token := c.token.Load(); token != 0 {
			c.write("renewed", facts{"token": token, "sent": now()})
		}
	}
}

// stand joins the queue, waits, and leads for at most one term. It returns false after a stop command.
func (c *candidate) stand() bool {
	session, err := concurrency.NewSession(c.client, concurrency.WithTTL(int(c.options.Lease)))
	if err != nil {
		c.failed(err)
		return true
	}
	defer session.Close()
	answers, err := c.client.KeepAlive(context.Background(), session.Lease())
	if err != nil {
		c.failed(err)
		return true
	}
	go c.noteRenewals(answers)
	election := concurrency.NewElection(session, c.options.Election)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	elected := make(chan error, 1)
	go func() { elected <- election.Campaign(ctx, c.options.Name) }()
	for {
		select {
		case err := <-elected:
			if err != nil {
				c.failed(err)
				return true
			}
			return c.lead(session, election)
		case command := <-c.commands: // a waiting candidate has nothing to resign
			if command == "stop" {
				cancel()
				<-elected // Campaign deletes its key
				return false
			}
		}
	}
}

// lead is one term. The belief ends before the key is deleted.
func (c *candidate) lead(session *concurrency.Session, election *concurrency.Election) bool {
	token := election.Rev()
	last := now()
	c.write("belief", facts{"token": token, "since": last})
	c.token.Store(token)
	work, cancel := context.WithCancel(context.Background())
	defer cancel()
	go c.work(work, election.Key(), token)
	reportedAt := time.Now()
	over := func() {
		cancel()
		c.token.Store(0)
		c.write("over", facts{"token": token, "last": last, "first_false": now()})
	}
	for {
		before := now()
		select {
		case <-session.Done():
			over()
			return true
		case command := <-c.commands:
			over()
			resigning, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := election.Resign(resigning); err != nil {
				c.failed(err)
			}
			return command != "stop"
		case <-time.After(askEvery):
		}
		last = before
		if time.Since(reportedAt) > stillEvery {
			c.write("still", facts{"last": last})
			reportedAt = time.Now()
		}
	}
}

// work writes to the register, guarded by the candidate's key.
func (c *candidate) work(ctx context.Context, key string, token int64) {
	for ctx.Err() == nil {
		c.writes++
		value := fmt.Sprintf("%d:%s:%d", token, c.options.Name, c.writes)
		patient, cancel := context.WithTimeout(ctx, patience)
		guard := clientv3.Compare(clientv3.CreateRevision(key), "=", token)
		done, err := c.client.Txn(patient).If(guard).Then(clientv3.OpPut(c.options.Register, value)).Commit()
		cancel()
		if err == nil && !done.Succeeded {
			c.write("write refused", facts{"token": token})
		}
		time.Sleep(writeEvery)
	}
}

func (c *candidate) readCommands() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 1 {
			c.commands <- words[1]
		}
	}
	os.Exit(0) // the suite has ended
}

func main() {
	c := &candidate{commands: make(chan string, 8)}
	check(json.Unmarshal([]byte(os.Args[1]), &c.options))
	var err error
	c.journal, err = os.OpenFile(c.options.Journal, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	check(err)
	c.write("start", facts{"identities": map[string]string{"": c.options.Name}, "pid": os.Getpid()})
	c.client, err = clientv3.New(clientv3.Config{Endpoints: c.options.Endpoints, Logger: zap.NewNop()})
	check(err)
	go c.readCommands()
	for c.stand() {
	}
}
