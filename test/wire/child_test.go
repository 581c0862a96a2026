//go:build e2e

package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/layer2"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// childEnv tells this binary that it is a child.
const childEnv = "BALLAST_TEST_LAYER2"

// order is a line that a child reads: what to announce on eth0, or to write its counters.
type order struct {
	Service   string       `json:",omitempty"`
	Addresses []netip.Addr `json:",omitempty"`
	Stats     bool         `json:",omitempty"`
}

// event is a line that a child writes.
type event struct {
	Links link.Snapshot  `json:",omitempty"`
	Stats []layer2.Stats `json:",omitempty"`
}

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := speak(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// speak is the layer-2 half of a speaker, told by its standard input what to announce.
func speak() error {
	ctx, cancel := context.WithCancel(context.Background())
	log := funcr.New(func(_, args string) { fmt.Fprintln(os.Stderr, args) }, funcr.Options{Verbosity: 1})
	watcher := link.NewWatcher(log)
	announcer := layer2.New(layer2.Config{Log: log})
	var mu sync.Mutex // guards standard output
	write := func(e event) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(e)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = watcher.Run(ctx) })
	running.Go(func() { _ = announcer.Run(ctx) })
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case links := <-watcher.Changes():
				announcer.SetLinks(links)
				write(event{Links: links})
			}
		}
	})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			cancel()
			return err
		}
		if o.Stats {
			write(event{Stats: announcer.Stats()})
			continue
		}
		var addresses []announce.Layer2
		for _, a := range o.Addresses {
			addresses = append(addresses, announce.Layer2{Address: a, Interfaces: []string{"eth0"}})
		}
		announcer.Set(name.ServiceKey{Namespace: "test", Name: o.Service}, addresses)
	}
	cancel()
	running.Wait()
	return nil
}
