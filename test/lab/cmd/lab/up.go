package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ballast-lb/ballast/test/lab"
)

// serveVerb is the hidden command with which up starts itself in the background.
const serveVerb = "serve-in-background"

// wordsOf collects a flag that may be given more than once.
type wordsOf struct{ words *[]string }

func (w wordsOf) String() string { return "" }

func (w wordsOf) Set(s string) error {
	*w.words = append(*w.words, s)
	return nil
}

// upFlags are the flags of up and demo.
func upFlags(name, verb string, args []string) (lab.Options, bool, error) {
	o := lab.Options{Prefix: name}
	flags := flag.NewFlagSet("lab "+verb, flag.ContinueOnError)
	mode := string(lab.NFTables)
	showOff := false
	flags.IntVar(&o.Nodes, "nodes", 3, "number of nodes")
	flags.IntVar(&o.Routers, "routers", 1, "number of routers, 0 to 2")
	flags.StringVar((*string)(&o.RouterKind), "router", string(lab.FRR), "the routers' daemon: frr, bird, openbgpd or gobgp")
	flags.IntVar(&o.BFD.Receive, "bfd-receive", 300, "what FRR and BIRD want to receive of BFD: a packet in so many ms")
	flags.IntVar(&o.BFD.Transmit, "bfd-transmit", 300, "what they send: a packet in so many ms")
	flags.IntVar(&o.BFD.Multiplier, "bfd-multiplier", 3, "how many packets of BFD may be missed")
	flags.BoolVar(&o.SecondLAN, "second-lan", false, "a second card, eth1, of every node on the LAN")
	flags.BoolVar(&o.OtherLAN, "other-lan", false, "a second network, with a further card of every node and the client lan2")
	flags.IntVar(&o.Controllers, "controllers", 1, "number of Ballast controllers")
	flags.StringVar(&mode, "proxy-mode", mode, "kube-proxy's mode, nftables or iptables")
	flags.BoolVar(&o.NoBallast, "no-ballast", false, "leave Ballast out")
	flags.StringVar(&o.BinDir, "bin", "", "folder of controller and speaker (default BALLAST_LAB_BIN, else bin/ of the repository)")
	flags.StringVar(&o.ConfigDir, "config", "", "folder of crd, rbac and policy (default config/ of the repository)")
	flags.StringVar(&o.KubeBin, "kube", "", "folder of the Kubernetes binaries (default KUBEBUILDER_ASSETS, else those of make kube)")
	flags.StringVar(&o.LogDir, "logs", "", "folder for logs, kept after down (default: in the lab's folder, removed with it)")
	flags.Var(wordsOf{&o.ControllerArgs}, "controller-arg", "a further argument for the controllers; may be repeated")
	flags.Var(wordsOf{&o.SpeakerArgs}, "speaker-arg", "a further argument for the speakers; may be repeated")
	if verb == serveVerb {
		flags.BoolVar(&showOff, "demo", false, "run the demo first")
	}
	err := flags.Parse(args)
	o.ProxyMode = lab.ProxyMode(mode)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("run %s: it takes no arguments, but flags: %q", verb, flags.Args())
	}
	return o, showOff, err
}

// up starts a process of its own session that holds the lab, and returns when the lab is ready.
func up(ctx context.Context, name string, args []string) error {
	if _, _, err := upFlags(name, "up", args); err != nil {
		return err
	}
	if err := background(ctx, name, args); err != nil {
		return err
	}
	fmt.Printf("lab %s is up: try `lab --name %s status`, `... kubectl get nodes`, `... exec n1 ip addr`, `... down`\n", name, name)
	return nil
}

// finished is the last word of a background process that has come up.
const finished = "\x00ready\n"

// background starts serve and shows what it says until it is ready or has failed.
func background(ctx context.Context, name string, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer reader.Close()
	cmd := exec.Command(self, append([]string{"--name", name, serveVerb}, args...)...)
	cmd.ExtraFiles = []*os.File{writer} // file 3 there
	cmd.Stderr = writer                 // until it is up
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	writer.Close()
	if err != nil {
		return fmt.Errorf("start in background: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	lines := bufio.NewReader(reader)
	for {
		line, err := lines.ReadString('\n')
		if line == finished {
			return cmd.Process.Release()
		}
		fmt.Print(line)
		if err != nil {
			_ = cmd.Wait()
			return errors.New("the lab did not come up")
		}
	}
}

// serve holds a lab in the background until somebody asks for its end.
func serve(name string, args []string) error {
	report := os.NewFile(3, "report")
	o, showOff, err := upFlags(name, serveVerb, args)
	if err != nil {
		return err
	}
	o.DownOnSignal = true
	return bringUp(o, showOff, report)
}

// bringUp starts the lab, tells its parent, and waits for the end.
func bringUp(o lab.Options, showOff bool, report io.WriteCloser) error {
	ctx := context.Background()
	o.Progress = func(message string) { fmt.Fprintln(report, "  "+message) }
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = l.Down() }() // said by the one below, if all went well
	if showOff {
		if err := demonstrate(ctx, l, report); err != nil {
			return fmt.Errorf("%w\n%s", err, strings.TrimSpace(l.Diagnostics()))
		}
	}
	if _, err := io.WriteString(report, finished); err != nil {
		return nil // the parent is gone: nobody wants the lab
	}
	report.Close()
	if err := keepErrors(filepath.Join(l.LogDir(), "lab.log")); err != nil {
		return err
	}
	<-l.Done()
	return l.Down()
}

// keepErrors sends this process's standard error to a file from now on.
func keepErrors(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	return unix.Dup3(int(f.Fd()), int(os.Stderr.Fd()), 0)
}
