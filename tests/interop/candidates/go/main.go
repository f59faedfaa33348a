// A candidate of concurrency.Election, etcd's own Go library, that tests drive over its standard streams.
//
// The protocol is described in tests/interop/program.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

// observerTTL is the lease of the session without which no Election can be made, not even one that only reads.
const observerTTL = 60

type event map[string]any

// candidate is one place in one queue.
type candidate struct {
	session  *concurrency.Session
	election *concurrency.Election
	cancel   context.CancelFunc
	campaign chan struct{} // closed when Campaign has returned
	leaving  chan struct{} // closed when the candidate resigns: the end of its session is then no loss
}

type program struct {
	client     *clientv3.Client
	reader     *concurrency.Session
	candidates map[string]*candidate
	output     sync.Mutex
}

func (p *program) print(name, kind string, more event) {
	more["name"], more["event"] = name, kind
	line, err := json.Marshal(more)
	if err != nil {
		panic(err)
	}
	p.output.Lock()
	defer p.output.Unlock()
	fmt.Println(string(line))
}

func record(kv *mvccpb.KeyValue) event {
	return event{"key": string(kv.Key), "value": string(kv.Value), "token": kv.CreateRevision, "lease": kv.Lease}
}

func (p *program) joinQueue(name, election, ttl string) error {
	seconds, err := strconv.Atoi(ttl)
	if err != nil {
		return err
	}
	session, err := concurrency.NewSession(p.client, concurrency.WithTTL(seconds))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &candidate{
		session:  session,
		election: concurrency.NewElection(session, election),
		cancel:   cancel,
		campaign: make(chan struct{}),
		leaving:  make(chan struct{}),
	}
	p.candidates[name] = c
	go func() {
		err := c.election.Campaign(ctx, name)
		if err == nil {
			p.print(name, "elected", event{
				"key": c.election.Key(), "value": name, "token": c.election.Rev(), "lease": int64(session.Lease()),
			})
		}
		close(c.campaign)
		if err != nil && ctx.Err() == nil {
			p.print(name, "failed", event{"error": err.Error()})
		}
	}()
	go func() {
		<-session.Done()
		select {
		case <-c.leaving:
		default:
			p.print(name, "lost", event{})
		}
	}()
	return nil
}

// resign leaves the queue, from whatever place. A Campaign that is cancelled deletes its key by itself.
func (p *program) resign(name string) error {
	c := p.candidates[name]
	if c == nil {
		return fmt.Errorf("no candidate %s", name)
	}
	delete(p.candidates, name)
	close(c.leaving)
	c.cancel()
	<-c.campaign
	if err := c.election.Resign(p.client.Ctx()); err != nil {
		return err
	}
	if err := c.session.Close(); err != nil {
		return err
	}
	p.print(name, "resigned", event{})
	return nil
}

func (p *program) proclaim(name, value string) error {
	c := p.candidates[name]
	if c == nil {
		return fmt.Errorf("no candidate %s", name)
	}
	if err := c.election.Proclaim(p.client.Ctx(), value); err != nil {
		return err
	}
	p.print(name, "proclaimed", event{})
	return nil
}

func (p *program) view(election string) (*concurrency.Election, error) {
	if p.reader == nil {
		session, err := concurrency.NewSession(p.client, concurrency.WithTTL(observerTTL))
		if err != nil {
			return nil, err
		}
		p.reader = session
	}
	return concurrency.NewElection(p.reader, election), nil
}

func (p *program) observe(name, election string) error {
	view, err := p.view(election)
	if err != nil {
		return err
	}
	leaders := view.Observe(p.client.Ctx())
	go func() {
		for response := range leaders {
			p.print(name, "observed", record(response.Kvs[0]))
		}
	}()
	return nil
}

func (p *program) leader(name, election string) error {
	view, err := p.view(election)
	if err != nil {
		return err
	}
	response, err := view.Leader(p.client.Ctx())
	if errors.Is(err, concurrency.ErrElectionNoLeader) {
		p.print(name, "leader", event{})
		return nil
	}
	if err != nil {
		return err
	}
	p.print(name, "leader", record(response.Kvs[0]))
	return nil
}

func (p *program) run(words []string) error {
	switch op := words[0] + "/" + strconv.Itoa(len(words)-1); op {
	case "campaign/3":
		return p.joinQueue(words[1], words[2], words[3])
	case "resign/1":
		return p.resign(words[1])
	case "proclaim/2":
		return p.proclaim(words[1], words[2])
	case "observe/2":
		return p.observe(words[1], words[2])
	case "leader/2":
		return p.leader(words[1], words[2])
	default:
		return fmt.Errorf("no such command: %q", words)
	}
}

func main() {
	client, err := clientv3.New(clientv3.Config{Endpoints: os.Args[1:], Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	p := &program{client: client, candidates: map[string]*candidate{}}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		if err := p.run(words); err != nil {
			p.print(words[1], "failed", event{"error": err.Error()})
		}
	}
}
