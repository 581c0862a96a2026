package lab

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawner starts all of the lab's child processes from one thread that lives as long
// as the lab. The kernel sends the parent-death signal when the thread that started a
// child ends, not the process, so children must not be started from threads that come and go.
type spawner struct {
	requests chan spawnRequest
	quit     chan struct{}
	done     chan struct{}
}

// errDown is what is left to say after Down.
var errDown = errors.New("the lab is down")

type spawnRequest struct {
	ns     *netns
	cmd    *exec.Cmd
	result chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawnRequest), quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	runtime.LockOSThread() // never unlocked: the thread ends here, and with it what it started
	defer close(s.done)
	for {
		select {
		case r := <-s.requests:
			r.result <- s.spawn(r.ns, r.cmd)
		case <-s.quit:
			return
		}
	}
}

func (s *spawner) spawn(ns *netns, cmd *exec.Cmd) error {
	if ns != nil {
		home, err := ns.enter()
		if err != nil {
			return err
		}
		defer home.Close()
		defer func() {
			if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
				panic(fmt.Sprintf("return to the own network namespace: %v", err)) // the thread would start what follows in a wrong one
			}
		}()
	}
	return cmd.Start()
}

// start starts cmd in the namespace (nil: the caller's own), to be killed when the lab's
// process or spawner ends.
func (s *spawner) start(ns *netns, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	r := spawnRequest{ns: ns, cmd: cmd, result: make(chan error, 1)}
	select {
	case s.requests <- r:
		return <-r.result
	case <-s.done:
		return errDown
	}
}

// close ends the spawner; start fails from then on.
func (s *spawner) close() {
	close(s.quit)
	<-s.done
}
