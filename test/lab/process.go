package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Backoff is how a Process that ends by itself is started again, in the manner of a
// kubelet: at once the first time, then after First, doubled up to Max; forgotten once
// it ran for Reset. The zero value means 1 s, 10 s and 30 s, which is a kubelet in a
// hurry (its own: 10 s, 5 min, 10 min).
type Backoff struct {
	First, Max, Reset time.Duration
}

func (b Backoff) withDefaults() Backoff {
	if b.First == 0 {
		b.First = time.Second
	}
	if b.Max == 0 {
		b.Max = 10 * time.Second
	}
	if b.Reset == 0 {
		b.Reset = 30 * time.Second
	}
	return b
}

// delay is the pause before start number failures+1 of a row of quick failures.
func (b Backoff) delay(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	d := b.First
	for i := 2; i < failures && d < b.Max; i++ {
		d *= 2
	}
	return min(d, b.Max)
}

// Process is one supervised child of the lab: started again when it ends by itself,
// until Stop. Its methods are safe for use by many goroutines.
type Process struct {
	name    string
	host    *Host // nil: no namespace
	argv    []string
	env     []string // added to the lab's own
	logPath string
	backoff Backoff
	spawn   *spawner
	state   *state

	mu       sync.Mutex
	cmd      *exec.Cmd // nil while it does not run
	cancel   context.CancelFunc
	done     chan struct{} // closed when the supervisor has ended; nil before the first Start
	restarts int
	last     string // how it ended the last time
	throttle func() // ends Throttle; nil if it is not in force
}

// Name is what bin/lab and Lab.Process call it, for example speaker-n1.
func (p *Process) Name() string { return p.name }

// LogPath is the file that takes its output. It is appended to over restarts.
func (p *Process) LogPath() string { return p.logPath }

// Pid is 0 while it does not run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Restarts counts how often it was started again after it ended by itself or by Kill.
func (p *Process) Restarts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.restarts
}

// Status is one line for people.
func (p *Process) Status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.cmd != nil:
		return fmt.Sprintf("running, pid %d, %d restarts", p.cmd.Process.Pid, p.restarts)
	case p.cancel != nil:
		return fmt.Sprintf("waiting to start again, %d restarts, %s", p.restarts, p.last)
	case p.last != "":
		return "stopped, " + p.last
	}
	return "never started"
}

// Start starts the process and its supervision. It fails if the process cannot be started
// now; it does nothing if it is supervised already.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		return nil
	}
	cmd, err := p.launch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cmd, p.cancel, p.done = cmd, cancel, make(chan struct{})
	go p.supervise(ctx, cmd, p.done)
	return nil
}

// launch starts one incarnation.
func (p *Process) launch() (*exec.Cmd, error) {
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", p.name, err)
	}
	defer log.Close()
	fmt.Fprintf(log, "--- lab: start %v\n", p.argv)
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Dir = p.state.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the lab alone
	if err := p.spawn.start(p.host.namespace(), cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	if err := p.state.recordPid(p.name, cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	return cmd, nil
}

// supervise waits for the incarnation and starts the next until ctx ends.
func (p *Process) supervise(ctx context.Context, cmd *exec.Cmd, done chan struct{}) {
	defer close(done)
	failures := 0
	for {
		began := time.Now()
		if cmd != nil {
			_ = cmd.Wait()
			p.ended(cmd)
		}
		if time.Since(began) >= p.backoff.Reset {
			failures = 0
		}
		failures++
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.backoff.delay(failures)):
		}
		cmd = p.again(ctx)
	}
}

func (p *Process) ended(cmd *exec.Cmd) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.last = nil, cmd.ProcessState.String()
	p.state.forgetPid(p.name)
}

// again starts the next incarnation, unless Stop came first; nil if that failed.
func (p *Process) again(ctx context.Context) *exec.Cmd {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	cmd, err := p.launch()
	if err != nil {
		p.last = err.Error()
		return nil
	}
	p.cmd = cmd
	p.restarts++
	return cmd
}

// Signal sends a signal to the running incarnation. Supervision goes on.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("signal %s: it does not run", p.name)
	}
	return p.cmd.Process.Signal(sig)
}

// Kill ends the running incarnation with SIGKILL, as a crash would; the supervisor starts the next.
func (p *Process) Kill() error { return p.Signal(syscall.SIGKILL) }

// Pause stops the process where it stands (SIGSTOP), as a hang would.
func (p *Process) Pause() error { return p.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// Stop ends supervision, sends sig and waits for the end. When ctx ends first, or after
// 30 s, it kills the process and returns an error that says so.
func (p *Process) Stop(ctx context.Context, sig syscall.Signal) error {
	p.mu.Lock()
	cancel, done := p.cancel, p.done
	if cancel == nil {
		p.mu.Unlock()
		return nil
	}
	cancel()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(sig)
	}
	p.mu.Unlock()
	err := p.awaitEnd(ctx, done)
	p.mu.Lock()
	if p.done == done {
		p.cancel = nil
	}
	p.mu.Unlock()
	return err
}

func (p *Process) awaitEnd(ctx context.Context, done chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		_ = p.Kill()
		<-done
		return fmt.Errorf("stop %s: it did not end by itself: %w", p.name, context.Cause(ctx))
	}
}

// Restart is Stop and Start.
func (p *Process) Restart(ctx context.Context, sig syscall.Signal) error {
	return errors.Join(p.Stop(ctx, sig), p.Start())
}

// LogTail returns the last n lines of its output, at most 64 KiB.
func (p *Process) LogTail(n int) string {
	f, err := os.Open(p.logPath)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	size := int64(64 << 10)
	if info, err := f.Stat(); err == nil {
		size = min(size, info.Size())
		_, _ = f.Seek(-size, 2)
	}
	data := make([]byte, size)
	m, _ := f.Read(data)
	lines := bytes.Split(bytes.TrimRight(data[:m], "\n"), []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

// supervised says whether it runs or will be started again.
func (p *Process) supervised() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cancel != nil
}
