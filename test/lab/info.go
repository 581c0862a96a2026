package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Info is what other processes may know about a running lab without asking it. The
// command bin/lab uses it to run commands on hosts.
type Info struct {
	Prefix, StateDir, LogDir, KubeBin, Kubeconfig string
	Pid                                           int
}

func (l *Lab) info() Info {
	return Info{
		Prefix: l.opts.Prefix, StateDir: l.state.dir, LogDir: l.opts.LogDir, KubeBin: l.opts.KubeBin,
		Kubeconfig: l.Kubeconfig(), Pid: os.Getpid(),
	}
}

// saveInfo writes Info for ReadInfo.
func (l *Lab) saveInfo() error {
	data, err := json.Marshal(l.info())
	if err != nil {
		return fmt.Errorf("encode info: %w", err)
	}
	return l.state.writeFiles(map[string][]byte{"lab.json": data})
}

// ReadInfo finds the lab of that prefix, whoever runs it.
func ReadInfo(prefix string) (Info, error) {
	var info Info
	data, err := os.ReadFile(filepath.Join(stateDir(prefix), "lab.json"))
	if errors.Is(err, os.ErrNotExist) {
		return info, fmt.Errorf("find lab %q: it is not up; start it with `bin/lab --name %s up`", prefix, prefix)
	}
	if err != nil {
		return info, fmt.Errorf("read info: %w", err)
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return info, fmt.Errorf("decode info: %w", err)
	}
	return info, nil
}

// Become replaces the calling process by a command on a host. It returns only on failure.
func (i Info) Become(host string, argv, env []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	ns, err := openNetns(i.Prefix + "-" + host)
	if err != nil {
		return fmt.Errorf("find host %q: %w", host, err)
	}
	runtime.LockOSThread()
	if _, err := ns.enter(); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", argv[0], syscall.Exec(path, argv, append(os.Environ(), env...)))
}

// BecomeKubectl replaces the calling process by kubectl with all rights.
func (i Info) BecomeKubectl(args []string) error {
	argv := append([]string{filepath.Join(i.KubeBin, "kubectl")}, args...)
	return i.Become("cp", argv, []string{"KUBECONFIG=" + i.Kubeconfig})
}

// BecomeVtysh replaces the calling process by vtysh of a router.
func (i Info) BecomeVtysh(router string, args []string) error {
	argv := append([]string{"vtysh"}, vtyshArgs(i.StateDir, router)...)
	if len(args) > 0 {
		argv = append(argv, "-c", strings.Join(args, " "))
	}
	return i.Become(router, argv, nil)
}
