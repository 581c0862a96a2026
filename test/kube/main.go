// Command kube builds the Kubernetes binaries that the lab and the API tests run:
// etcd, kube-apiserver, kube-controller-manager, kube-proxy and kubectl, from the
// sources that the Go module proxy serves at the versions in this module's go.mod.
//
// They are built once, into ${XDG_CACHE_HOME:-~/.cache}/ballast/kube/VERSION/bin, and
// again when a version or the compiler changes. KUBEBUILDER_ASSETS names a folder
// with binaries to use instead. The folder's path is the only line on standard
// output; progress goes to standard error.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// binary is one program to build.
type binary struct{ name, pkg string }

var binaries = []binary{
	{"etcd", "go.etcd.io/etcd/server/v3"},
	{"kubectl", "k8s.io/kubernetes/cmd/kubectl"},
	{"kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"},
	{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
	{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
}

// buildTimeout bounds the whole build; the first one takes a quarter of an hour on two cores.
const buildTimeout = time.Hour

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	dir, err := assets(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}

// assets returns the folder that holds the binaries, building what is missing.
func assets(ctx context.Context) (string, error) {
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		if missing := missingIn(dir); len(missing) > 0 {
			return "", fmt.Errorf("KUBEBUILDER_ASSETS=%s lacks %s; add them, or unset it to build all from source", dir, strings.Join(missing, ", "))
		}
		return dir, nil
	}
	kube, err := moduleVersion(ctx, "k8s.io/kubernetes")
	if err != nil {
		return "", err
	}
	etcd, err := moduleVersion(ctx, "go.etcd.io/etcd/server/v3")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	root := filepath.Join(cache, "ballast", "kube", kube)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(root, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()

	bin := filepath.Join(root, "bin")
	stamp := filepath.Join(bin, "BUILT")
	want := fmt.Sprintf("kubernetes %s, etcd %s, %s\n", kube, etcd, runtime.Version())
	if got, err := os.ReadFile(stamp); err == nil && string(got) == want && len(missingIn(bin)) == 0 {
		return bin, nil
	}
	fresh := filepath.Join(root, "bin.new")
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(fresh, 0o755)); err != nil {
		return "", fmt.Errorf("make build folder: %w", err)
	}
	fmt.Fprintf(os.Stderr, "Building %s into %s (once; about 15 minutes on two cores with nothing cached)\n", strings.TrimSpace(want), bin)
	for i, b := range binaries {
		if err := build(ctx, b, kube, fresh, fmt.Sprintf("[%d/%d] %s", i+1, len(binaries), b.name)); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(filepath.Join(fresh, "BUILT"), []byte(want), 0o644); err != nil {
		return "", fmt.Errorf("write stamp: %w", err)
	}
	if err := errors.Join(os.RemoveAll(bin), os.Rename(fresh, bin)); err != nil {
		return "", fmt.Errorf("install binaries: %w", err)
	}
	return bin, nil
}

// missingIn lists the binaries that dir lacks.
func missingIn(dir string) []string {
	var missing []string
	for _, b := range binaries {
		if info, err := os.Stat(filepath.Join(dir, b.name)); err != nil || info.Mode()&0o111 == 0 {
			missing = append(missing, b.name)
		}
	}
	return missing
}

func moduleVersion(ctx context.Context, module string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("ask version of %s (run in the folder of this module): %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// lock waits until no other build of the same version runs.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for said := false; ; said = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !said {
			fmt.Fprintln(os.Stderr, "Waiting for another build of the Kubernetes binaries to end")
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for lock %s: %w", path, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}

// build compiles one binary and prints how many packages have been compiled so far.
func build(ctx context.Context, b binary, version, dir, label string) error {
	deps, err := exec.CommandContext(ctx, "go", "list", "-deps", b.pkg).Output()
	if err != nil {
		return fmt.Errorf("list packages of %s: %w", b.name, err)
	}
	total := strings.Count(string(deps), "\n")
	minor := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	const v = "k8s.io/component-base/version."
	ldflags := fmt.Sprintf("-s -w -X %sgitVersion=%s -X %sgitMajor=%s -X %sgitMinor=%s -X %sgitTreeState=clean",
		v, version, v, minor[0], v, minor[1], v)
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-ldflags", ldflags, "-o", filepath.Join(dir, b.name), b.pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("open pipe: %w", err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go build: %w", err)
	}
	compiled, last, other := 0, start, []string{}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		line := lines.Text()
		if strings.ContainsAny(line, " \t") && !strings.HasPrefix(line, "go: downloading") {
			other = append(other, line)
			continue
		}
		compiled++
		if now := time.Now(); now.Sub(last) > 10*time.Second {
			last = now
			fmt.Fprintf(os.Stderr, "%s: compiled %d packages, %d at most, %s so far\n", label, compiled, total, now.Sub(start).Round(time.Second))
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", b.name, err, strings.Join(other, "\n"))
	}
	fmt.Fprintf(os.Stderr, "%s: done in %s\n", label, time.Since(start).Round(time.Second))
	return nil
}
