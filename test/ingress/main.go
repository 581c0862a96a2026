// Command ingress builds the Ingress controller that the ladder test runs, skipper, from the sources that the Go module
// proxy serves at the version in this module's go.mod.
//
// It is built once, into ${XDG_CACHE_HOME:-~/.cache}/ballast/ingress/VERSION/bin, and again when the version or the
// compiler changes. The folder's path is the only line on standard output; progress goes to standard error.
package main

import (
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

const (
	module = "github.com/zalando/skipper"
	binary = "skipper"
	// buildTimeout bounds the build; the first one takes some three minutes on two cores.
	buildTimeout = 30 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	dir, err := controller(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ingress:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}

// controller returns the folder that holds the binary, which it builds if it is missing.
func controller(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("ask version of %s (run in the folder of this module): %w", module, err)
	}
	version := strings.TrimSpace(string(out))
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	dir := filepath.Join(cache, "ballast", "ingress", version, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(filepath.Dir(dir), "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()

	stamp := filepath.Join(dir, "BUILT")
	want := fmt.Sprintf("%s %s, %s\n", binary, version, runtime.Version())
	got, err := os.ReadFile(stamp)
	if _, missing := os.Stat(filepath.Join(dir, binary)); err == nil && missing == nil && string(got) == want {
		return dir, nil
	}
	fmt.Fprintf(os.Stderr, "Building %s into %s (once; about three minutes on two cores with nothing cached)\n", strings.TrimSpace(want), dir)
	start := time.Now()
	if err := build(ctx, dir); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "%s: done in %s\n", binary, time.Since(start).Round(time.Second))
	if err := os.WriteFile(stamp, []byte(want), 0o644); err != nil {
		return "", fmt.Errorf("write stamp: %w", err)
	}
	return dir, nil
}

// build compiles the binary and puts it in its place whole, since one that runs cannot be written to.
func build(ctx context.Context, dir string) error {
	fresh := filepath.Join(dir, binary+".new")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", fresh, module+"/cmd/"+binary)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", binary, err)
	}
	if err := os.Rename(fresh, filepath.Join(dir, binary)); err != nil {
		return fmt.Errorf("install %s: %w", binary, err)
	}
	return nil
}

// lock waits until no other build of the same version runs.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait for lock %s: %w", path, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}
