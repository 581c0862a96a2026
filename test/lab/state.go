package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ballast-lb/ballast/internal/keep"
)

// stateRoot holds one folder and one lock file a lab.
const stateRoot = "/run/ballast-lab"

// validPrefix bounds prefixes so that namespace names stay readable and unambiguous.
var validPrefix = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

// state is what a lab keeps on disk.
type state struct {
	prefix string
	dir    string // logs, pids, kubeconfigs
	lock   *os.File
}

// ErrInUse says that a living process owns the lab of that prefix.
var ErrInUse = errors.New("the lab is already up")

// takeState locks the prefix, removes what a crashed lab left and makes an empty folder.
func takeState(ctx context.Context, prefix string) (*state, error) {
	if !validPrefix.MatchString(prefix) {
		return nil, fmt.Errorf("check prefix %q: want a lower-case letter, then at most 11 letters or digits", prefix)
	}
	if err := os.MkdirAll(stateRoot, 0o755); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	lock, err := os.OpenFile(stateDir(prefix)+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock %s: %w; bin/lab --name %s down removes it", prefix, ErrInUse, prefix)
	}
	s := &state{prefix: prefix, dir: stateDir(prefix), lock: lock}
	if err := s.clean(ctx); err != nil {
		s.release()
		return nil, err
	}
	for _, d := range []string{s.dir, s.path("pids"), s.path("logs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			s.release()
			return nil, fmt.Errorf("make state folder: %w", err)
		}
	}
	return s, nil
}

// Clean removes what a crashed lab of this prefix left behind. It fails with ErrInUse if the lab is alive.
func Clean(ctx context.Context, prefix string) error {
	s, err := takeState(ctx, prefix)
	if err != nil {
		return err
	}
	defer s.release()
	return s.clean(ctx)
}

func stateDir(prefix string) string { return filepath.Join(stateRoot, prefix) }

func (s *state) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// release gives up the lock. The lock file stays: removing it would race with the next owner.
func (s *state) release() { s.lock.Close() }

// clean kills recorded processes, deletes the prefix's namespaces, what speakers kept and the folder.
func (s *state) clean(ctx context.Context) error {
	s.killRecorded()
	return errors.Join(s.deleteNamespaces(ctx), s.removeKept(), os.RemoveAll(s.dir))
}

// recordCluster notes the uid of the cluster, which names the folder where its speakers keep claims.
func (s *state) recordCluster(uid string) error {
	return os.WriteFile(s.path("cluster"), []byte(uid), 0o600)
}

// cluster is what recordCluster noted, "" before that.
func (s *state) cluster() (string, error) {
	uid, err := os.ReadFile(s.path("cluster"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the cluster's uid: %w", err)
	}
	return string(uid), nil
}

// removeKept removes what the cluster's speakers kept, and the folder above once no cluster has anything there.
func (s *state) removeKept() error {
	uid, err := s.cluster()
	if err != nil || uid == "" {
		return err
	}
	if err := os.RemoveAll(filepath.Join(keep.Root, uid)); err != nil {
		return fmt.Errorf("remove kept claims: %w", err)
	}
	_ = os.Remove(keep.Root) // fails if another cluster keeps something
	return nil
}

func (s *state) deleteNamespaces(ctx context.Context) error {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), s.prefix+"-") {
			continue
		}
		if out, err := exec.CommandContext(ctx, "ip", "netns", "del", e.Name()).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("delete network namespace %s: %w: %s", e.Name(), err, bytes.TrimSpace(out)))
		}
	}
	return errors.Join(errs...)
}

// recordPid notes a started process as "pid starttime".
func (s *state) recordPid(name string, pid int) error {
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(s.path("pids", name), fmt.Appendf(nil, "%d %s\n", pid, started), 0o644)
}

func (s *state) forgetPid(name string) { os.Remove(s.path("pids", name)) }

// killRecorded kills processes of an earlier lab that are still the ones it started.
func (s *state) killRecorded() {
	entries, err := os.ReadDir(s.path("pids"))
	if err != nil {
		return
	}
	for _, e := range entries {
		var pid int
		var started string
		data, err := os.ReadFile(s.path("pids", e.Name()))
		if err != nil {
			continue
		}
		if n, _ := fmt.Sscanf(string(data), "%d %s", &pid, &started); n == 2 {
			killIfSame(pid, started)
		}
	}
}

// killIfSame kills the process through a pidfd, so that the pid cannot be reused in
// between, and waits up to 5 s for it to go.
func killIfSame(pid int, started string) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if now, err := startTime(pid); err != nil || now != started {
		return
	}
	if unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0) != nil {
		return
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, _ = unix.Poll(poll, int((5 * time.Second).Milliseconds()))
}

// startTime returns field 22 of /proc/PID/stat, which together with the pid names a
// process for as long as the machine runs.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", fmt.Errorf("read process start time: %w", err)
	}
	return parseStartTime(string(data))
}

// parseStartTime reads the line of /proc/PID/stat: the second field is a name in
// parentheses that may itself contain blanks and parentheses.
func parseStartTime(stat string) (string, error) {
	_, rest, ok := cutLast(stat, ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return "", fmt.Errorf("parse process start time: unexpected form")
	}
	return fields[19], nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
