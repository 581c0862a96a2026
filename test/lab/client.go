package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Exec runs a command on a host and returns what it wrote to standard output. On failure
// the error carries standard error. The command ends with ctx, or with the lab.
func (l *Lab) Exec(ctx context.Context, host string, command ...string) (string, error) {
	return l.run(ctx, host, "", command)
}

// run is Exec with standard input.
func (l *Lab) run(ctx context.Context, host, stdin string, command []string) (string, error) {
	h, err := l.Host(host)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	if err := l.spawn.start(h.ns, cmd); err != nil {
		return "", fmt.Errorf("run %s on %s: %w", command[0], host, err)
	}
	// The group, as a shell's children would otherwise live on.
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err = cmd.Wait()
	stop()
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("run %s on %s: %w: %s", strings.Join(command, " "), host, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Kubectl runs kubectl with all rights and returns its standard output.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.run(ctx, "cp", "", append([]string{l.kube("kubectl")}, args...))
}

// Apply gives manifests to kubectl apply.
func (l *Lab) Apply(ctx context.Context, manifests string) error {
	_, err := l.run(ctx, "cp", manifests, []string{l.kube("kubectl"), "apply", "-f", "-"})
	return err
}

// Delete deletes the objects of the manifests and waits until they are gone; what does
// not exist is fine.
func (l *Lab) Delete(ctx context.Context, manifests string) error {
	_, err := l.run(ctx, "cp", manifests, []string{l.kube("kubectl"), "delete", "--ignore-not-found", "--timeout=30s", "-f", "-"})
	return err
}

// httpLimit bounds one request of HTTP.
const httpLimit = 3 * time.Second

// HTTP asks for a URL from a host, over a new connection, within 3 s, and returns the
// body. The URL's host must be an IP address. Any status but 200 is an error.
func (l *Lab) HTTP(ctx context.Context, from, url string) (string, error) {
	h, err := l.Host(from)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, httpLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	answer, err := h.httpClient().Do(request)
	if err != nil {
		return "", fmt.Errorf("ask from %s: %w", from, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", fmt.Errorf("read answer of %s: %w", url, err)
	}
	if answer.StatusCode != http.StatusOK {
		return string(body), fmt.Errorf("ask from %s for %s: %s", from, url, answer.Status)
	}
	return string(body), nil
}

// httpClient opens a new connection from the host for every request.
func (h *Host) httpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: h.ns.dial, DisableKeepAlives: true}}
}

// ForgetConnections empties the nodes' connection tracking, when no client has a connection that it needs. Connections that broke stay
// there as established: a client that takes the port of one again, for the same address, is sent to the pod
// of that time, and if that is gone its first packets are lost.
func (l *Lab) ForgetConnections(ctx context.Context) error {
	for _, n := range l.nodes {
		if out, err := l.Exec(ctx, n.Name, "conntrack", "-F"); err != nil {
			return fmt.Errorf("empty the connection tracking of %s: %w: %s", n.Name, err, out)
		}
	}
	return nil
}
