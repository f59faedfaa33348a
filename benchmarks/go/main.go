// The peer "Go's client": concurrency.Election of etcd's own Go client, as a worker of the benchmarks.
//
// It takes commands as lines of JSON and answers each with a line of JSON that has the command's id. Times are
// CLOCK_MONOTONIC in nanoseconds, which all processes of a machine share.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"golang.org/x/sys/unix"
)

// Leaders with a lease shorter than this, in seconds, are going to be killed, and are asked how long it stands.
const watchedBelow = 10

type options struct {
	Endpoints []string `json:"endpoints"`
	Lease     int      `json:"lease"`
	Shared    bool     `json:"shared"` // one session for all elections
	Once      string   `json:"once"`   // be elected here, say when, and end
}

type command struct {
	ID       int    `json:"id"`
	Op       string `json:"op"`
	Election string `json:"election"`
	Name     string `json:"name"` // the candidate's; by default its election's
	Times    int    `json:"times"`
	Many     int    `json:"many"`
}

type answer map[string]interface{}

// candidate is one place in one queue.
type candidate struct {
	session  *concurrency.Session
	election *concurrency.Election
	cancel   context.CancelFunc
	done     chan struct{} // closed when elected, or failed
	elected  int64
	err      error
	renewed  int64 // when the last answer to a renewal was seen
}

type worker struct {
	options    options
	client     *clientv3.Client
	mutex      sync.Mutex // of candidates
	candidates map[string]*candidate
	shared     *concurrency.Session
	speaking   sync.Mutex
}

func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

func (w *worker) session() (*concurrency.Session, error) {
	if w.options.Shared {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		if w.shared != nil {
			return w.shared, nil
		}
	}
	session, err := concurrency.NewSession(w.client, concurrency.WithTTL(w.options.Lease))
	if w.options.Shared {
		w.shared = session
	}
	return session, err
}

// campaign stands as a candidate; the queue is joined and waited in beside.
func (w *worker) campaign(name string) (*candidate, error) {
	session, err := w.session()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &candidate{session: session, cancel: cancel, done: make(chan struct{}), renewed: now()}
	if w.options.Lease < watchedBelow {
		if err := w.watchRenewals(c); err != nil {
			return nil, err
		}
	}
	c.election = concurrency.NewElection(session, name)
	go func() {
		c.err = c.election.Campaign(ctx, "bench")
		c.elected = now()
		close(c.done)
	}()
	return c, nil
}

func (w *worker) keep(name string, c *candidate) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.candidates[name] = c
}

func (w *worker) find(name string) (*candidate, error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if c := w.candidates[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("no candidate in %s", name)
}

// standing waits until the candidate's key is in the queue. Campaign does not report it, so etcd is read.
func (w *worker) standing(name string, c *candidate) error {
	key := fmt.Sprintf("%s/%x", name, c.session.Lease())
	for tries := 0; tries < 500; tries++ {
		select {
		case <-c.done:
			return c.err
		default:
		}
		found, err := w.client.Get(context.Background(), key, clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		if found.Count == 1 {
			return nil
		}
		time.Sleep(time.Duration(2+tries) * time.Millisecond)
	}
	return fmt.Errorf("%s does not stand", key)
}

func (w *worker) acquire(name string) (took int64, err error) {
	began := now()
	c, err := w.campaign(name)
	if err != nil {
		return 0, err
	}
	<-c.done
	w.keep(name, c)
	return c.elected - began, c.err
}

func (w *worker) stand(name string) error { return w.standAs(name, name) }

func (w *worker) standAs(name string, election string) error {
	c, err := w.campaign(election)
	if err != nil {
		return err
	}
	w.keep(name, c)
	return w.standing(election, c)
}

func (w *worker) drop(name string) error {
	c, err := w.find(name)
	if err != nil {
		return err
	}
	w.mutex.Lock()
	delete(w.candidates, name)
	w.mutex.Unlock()
	c.cancel()
	<-c.done
	if w.options.Shared {
		return c.election.Resign(context.Background())
	}
	return c.session.Close()
}

// watchRenewals remembers when the lease's last renewal was answered, by listening where the session listens.
func (w *worker) watchRenewals(c *candidate) error {
	answers, err := w.client.KeepAlive(context.Background(), c.session.Lease())
	if err != nil {
		return err
	}
	go func() {
		for range answers {
			w.mutex.Lock()
			c.renewed = now()
			w.mutex.Unlock()
		}
	}()
	return nil
}

// each does something for many elections at a time, and returns the first error.
func each(format string, many int, width int, do func(name string) error) error {
	places := make(chan struct{}, width)
	failed := make(chan error, many)
	var group sync.WaitGroup
	for number := 0; number < many; number++ {
		group.Add(1)
		places <- struct{}{}
		go func(name string) {
			defer group.Done()
			if err := do(name); err != nil {
				failed <- err
			}
			<-places
		}(fmt.Sprintf(format, number))
	}
	group.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (w *worker) do(c command) (answer, error) {
	if c.Name == "" {
		c.Name = c.Election
	}
	switch c.Op {
	case "connect":
		_, err := w.client.Get(context.Background(), "warm")
		return answer{}, err
	case "acquire":
		took := []int64{}
		for number := 0; number < c.Times; number++ {
			one, err := w.acquire(fmt.Sprintf("%s-%d", c.Election, number))
			if err != nil {
				return nil, err
			}
			took = append(took, one)
		}
		return answer{"took": took}, nil
	case "acquire_cold":
		began := now()
		cold, err := connect(w.options)
		if err != nil {
			return nil, err
		}
		defer cold.Close()
		one := &worker{options: w.options, client: cold, candidates: map[string]*candidate{}}
		if _, err := one.acquire(c.Election); err != nil {
			return nil, err
		}
		elected := one.candidates[c.Election].elected
		return answer{"took": []int64{elected - began}}, one.drop(c.Election)
	case "stand":
		return answer{}, w.standAs(c.Name, c.Election)
	case "crowd":
		stand := func(name string) error { return w.standAs(name, c.Election) }
		return answer{}, each(c.Election+"#%d", c.Many, 500, stand)
	case "wait":
		found, err := w.find(c.Name)
		if err != nil {
			return nil, err
		}
		<-found.done
		return answer{"elected": found.elected}, found.err
	case "resign":
		found, err := w.find(c.Name)
		if err != nil {
			return nil, err
		}
		called := now()
		err = found.election.Resign(context.Background())
		return answer{"called": called, "done": now()}, err
	case "drop":
		return answer{}, w.drop(c.Name)
	case "die":
		found, err := w.find(c.Name)
		if err != nil {
			return nil, err
		}
		w.mutex.Lock()
		w.say(c.ID, answer{"died": now(), "lease_ends": found.renewed + int64(w.options.Lease)*1e9})
		return nil, syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "hold":
		began := now()
		err := each(c.Election+"-%d", c.Many, 500, func(name string) error { _, err := w.acquire(name); return err })
		return answer{"began": began, "done": now()}, err
	case "stand_many":
		return answer{}, each(c.Election+"-%d", c.Many, 500, w.stand)
	case "wait_many":
		last := int64(0)
		for number := 0; number < c.Many; number++ {
			found, err := w.find(fmt.Sprintf("%s-%d", c.Election, number))
			if err != nil {
				return nil, err
			}
			<-found.done
			if found.err != nil {
				return nil, found.err
			}
			if found.elected > last {
				last = found.elected
			}
		}
		return answer{"last": last}, nil
	case "drop_many":
		called := now()
		return answer{"called": called}, each(c.Election+"-%d", c.Many, 500, w.drop)
	case "lost":
		lost := 0
		w.mutex.Lock()
		defer w.mutex.Unlock()
		for _, candidate := range w.candidates {
			select {
			case <-candidate.session.Done():
				lost++
			default:
			}
		}
		return answer{"lost": lost}, nil
	}
	return nil, fmt.Errorf("unknown command %s", c.Op)
}

func (w *worker) say(id int, words answer) {
	words["id"] = id
	line, err := json.Marshal(words)
	if err != nil {
		panic(err)
	}
	w.speaking.Lock()
	defer w.speaking.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func connect(options options) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: options.Endpoints, DialTimeout: 10 * time.Second})
}

func main() {
	w := &worker{candidates: map[string]*candidate{}}
	if err := json.Unmarshal([]byte(os.Args[1]), &w.options); err != nil {
		panic(err)
	}
	client, err := connect(w.options)
	if err != nil {
		panic(err)
	}
	w.client = client
	if w.options.Once != "" {
		if _, err := w.acquire(w.options.Once); err != nil {
			panic(err)
		}
		w.say(0, answer{"elected": w.candidates[w.options.Once].elected})
		w.drop(w.options.Once)
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		go func() {
			words, err := w.do(c)
			if err != nil {
				words = answer{"error": err.Error()}
			}
			w.say(c.ID, words)
		}()
	}
}
