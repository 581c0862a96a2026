package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
)

// Lab is one running lab. Its methods are safe for use by many goroutines, but Down,
// after which nothing else may be called.
type Lab struct {
	opts       Options
	state      *state
	spawn      *spawner
	namespaces []*netns
	sw         *netns
	hosts      map[string]*Host
	nodes      []*Node
	pki        *pki
	admin      pair
	client     kubernetes.Interface
	background context.Context // ends the lab's own goroutines
	stop       context.CancelFunc
	wg         sync.WaitGroup
	started    chan struct{} // closed when Up's work has ended, well or badly
	down       sync.Once
	downErr    error

	mu        sync.Mutex
	processes []*Process // in order of creation
	backends  []*RunningBackend
	strangers []*Host        // of AddHost
	numbered  map[string]int // pods per node so far, for addresses and names
}

// Up brings a lab up and returns when every part of it is ready: nodes Ready, kube-proxies
// synced, Ballast's processes started. ctx bounds the start only. If it fails, everything is
// removed again and the error carries Diagnostics.
func Up(ctx context.Context, opts Options) (*Lab, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s, err := takeState(ctx, opts.Prefix)
	if err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	l := &Lab{
		opts: opts, state: s, spawn: newSpawner(), hosts: map[string]*Host{}, numbered: map[string]int{},
		background: background, stop: stop, started: make(chan struct{}),
	}
	if opts.DownOnSignal {
		l.watchSignals()
	}
	if err := l.start(ctx); err != nil {
		err = fmt.Errorf("bring lab %s up: %w", opts.Prefix, err)
		if ctx.Err() == nil {
			err = fmt.Errorf("%w\n%s", err, l.Diagnostics())
		}
		return nil, errors.Join(err, l.Down())
	}
	return l, nil
}

// start runs the phases of Up. What does not depend on each other runs side by side.
func (l *Lab) start(ctx context.Context) error {
	defer close(l.started)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.background, cancel)() // Down during Up
	if err := l.prepareLogs(); err != nil {
		return err
	}
	l.opts.Progress("making the network")
	if err := l.build(ctx); err != nil {
		return err
	}
	if err := l.makePKI(); err != nil {
		return err
	}
	if err := errors.Join(l.saveInfo(), l.serveControl()); err != nil {
		return err
	}
	l.opts.Progress("starting etcd, kube-apiserver and the routers")
	if err := parallel(ctx, l.startAPI, l.startRouters); err != nil {
		return err
	}
	l.opts.Progress("starting kube-controller-manager and the nodes")
	if err := l.startControllerManager(); err != nil {
		return err
	}
	if err := parallel(ctx, l.startNodes, l.install); err != nil {
		return err
	}
	return l.startBallast(ctx)
}

func (l *Lab) prepareLogs() error {
	if l.opts.LogDir == "" {
		l.opts.LogDir = l.state.path("logs")
	}
	if err := os.MkdirAll(l.opts.LogDir, 0o755); err != nil {
		return fmt.Errorf("make log folder: %w", err)
	}
	return nil
}

// watchSignals makes SIGINT and SIGTERM remove the lab.
func (l *Lab) watchSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the lab, or ends the process; not joined, as it calls Down itself
		defer signal.Stop(signals)
		select {
		case <-l.background.Done():
		case <-signals:
			if err := l.Down(); err != nil {
				fmt.Fprintln(os.Stderr, "lab:", err)
			}
			os.Exit(130)
		}
	}()
}

// downLimit bounds Down.
const downLimit = 60 * time.Second

// Down kills all processes and removes all namespaces and files. It may be called
// more than once and while other calls are under way, which then fail.
func (l *Lab) Down() error {
	l.down.Do(func() {
		l.stop()
		<-l.started
		l.mu.Lock()
		processes := slices.Clone(l.processes)
		backends := slices.Clone(l.backends)
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), downLimit)
		defer cancel()
		for _, b := range backends {
			b.close()
		}
		stops := []func(context.Context) error{}
		for _, p := range processes {
			p.Unthrottle()
			stops = append(stops, func(ctx context.Context) error { return p.Stop(ctx, syscall.SIGKILL) })
		}
		l.downErr = parallel(ctx, stops...)
		l.wg.Wait()
		l.spawn.close()
		l.mu.Lock()
		namespaces := slices.Clone(l.namespaces)
		l.mu.Unlock()
		for _, ns := range namespaces {
			ns.close()
		}
		l.downErr = errors.Join(l.downErr, l.state.clean(ctx))
		l.state.release()
	})
	return l.downErr
}

// newProcess makes a process of the lab; the caller starts it.
func (l *Lab) newProcess(name string, h *Host, argv ...string) *Process {
	p := &Process{
		name: name, host: h, argv: argv, backoff: l.opts.Backoff, spawn: l.spawn, state: l.state,
		logPath: filepath.Join(l.opts.LogDir, name+".log"),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes = append(l.processes, p)
	return p
}

// Process finds a process by name, for example speaker-n1, controller-1, proxy-n1,
// apiserver, etcd, controller-manager, zebra-r1, bgpd-r1.
func (l *Lab) Process(name string) (*Process, error) {
	var names []string
	for _, p := range l.Processes() {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return nil, fmt.Errorf("find process %q: the lab has %v", name, names)
}

// Processes returns all processes in the order of their first start.
func (l *Lab) Processes() []*Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.processes)
}

// Host finds a host by name: n1, r1, cp, lan, wan, or one of AddHost.
func (l *Lab) Host(name string) (*Host, error) {
	var names []string
	for _, h := range l.allHosts() {
		if h.Name == name {
			return h, nil
		}
		names = append(names, h.Name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("find host %q: the lab has %v", name, names)
}

// BinDir is the folder with the programs that the lab runs.
func (l *Lab) BinDir() string { return l.opts.BinDir }

// LogDir is the folder with a log for each process.
func (l *Lab) LogDir() string { return l.opts.LogDir }

// WaitFor is Poll with a limit of 60 s.
func (l *Lab) WaitFor(ctx context.Context, what string, check func(context.Context) error) error {
	return Poll(ctx, waitLimit, what, check)
}
