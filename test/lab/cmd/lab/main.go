// Command lab runs a whole Kubernetes cluster with Ballast, routers and clients in
// network namespaces of this machine. See package test/lab for what is in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

const usage = `lab: a Kubernetes cluster with Ballast, routers and clients, in network namespaces of this machine

usage: lab [--name PREFIX] COMMAND [ARGUMENTS]

  up [FLAGS]                    start a lab and return (up --help lists the flags)
  down                          remove it, or what a crashed one left behind
  demo [FLAGS]                  start a lab, show an address at work, remove it (KEEP=1: leave it up)
  status                        hosts and processes

  exec HOST COMMAND...          run a command on a host: cp, n1.., r1.., lan, wan, those of add-host
  kubectl ARGUMENTS...          with all rights
  vtysh ROUTER [COMMAND...]     FRR's shell, or one command: vtysh r1 show ip bgp
  cli ROUTER COMMAND...         a command of birdc, bgpctl or gobgp (FRR: vtysh, one argument a command)
  logs PROCESS [-f]             for example speaker-n1; status lists them
  diagnostics                   objects, events, routing tables and the ends of all logs

  add-backend NODE APP [NS]     run a pod with the label app=APP that answers HTTP on port 8080
  remove-backend POD

  start | restart | stop PROCESS [SIGNAL]   stop means until start; the signal is TERM unless given
  kill PROCESS                  SIGKILL; it is started again after a pause, as a kubelet would
  pause | resume PROCESS        SIGSTOP, SIGCONT

  power-off NODE | power-on NODE            kill-node is the same as power-off
  cut NODE [IFACE] | restore NODE [IFACE]   pull the cable, plug it in
  isolate NODE [IFACE] | rejoin NODE [IFACE]   lose all frames though the link stays up
  shut-down NODE | power-on NODE            SIGTERM to everything, dead cables 2 s later
  reboot NODE [SECONDS]                     both, with that time (5 s) without network
  lose NODE sent|received|gossip [IFACE]    lose one way, or UDP and TCP 7947 and 7948; the link stays up
  mend NODE [IFACE]
  answer NODE ADDRESS | stop-answer NODE ADDRESS   its kernel answers ARP for a foreign address
  deregister NODE | register NODE           delete the Node object; make it again
  stop-heartbeat NODE | start-heartbeat NODE   what stands in for the kubelet

  partition HOST... | heal                  cut these hosts off from all others; links stay up
  stop-api | start-api                      the API server
  throttle PROCESS RUN REST | unthrottle PROCESS   run and stand still by turns: throttle speaker-n1 10ms 90ms
  add-host NAME [ADDRESS...] | remove-host NAME    a stranger on the LAN that has these addresses

  routes ROUTER | sessions ROUTER | fib ROUTER   the same words for every routing daemon; its kernel's routes
  monitor-routes ROUTER SECONDS             every change of its kernel's routes
  restart-router ROUTER [SIGNAL]            the process that speaks BGP
  add-bad-peer NAME black-hole|silent|closing|garbage   a host that is no use as a BGP peer (remove-host)

  who-has HOST ADDRESS...                   ask the LAN, from a host
  watch HOST SECONDS [ADDRESS...]           what is said, by ARP and NDP, of who has addresses
  probe HOST SECONDS ADDRESS[:PORT]...      a new connection every 10 ms
  hold HOST SECONDS ADDRESS[:PORT]          60 established connections in use

--name (or LAB_NAME) tells labs apart; the default is "blst".
`

func main() {
	err := run(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	global := flag.NewFlagSet("lab", flag.ContinueOnError)
	global.SetOutput(io.Discard)
	name := global.String("name", "", "")
	if err := global.Parse(args); err != nil && !errors.Is(err, flag.ErrHelp) {
		return fmt.Errorf("%w\n\n%s", err, usage)
	}
	if *name == "" {
		*name = os.Getenv("LAB_NAME")
	}
	if *name == "" {
		*name = "blst"
	}
	if global.NArg() == 0 || global.Arg(0) == "help" {
		fmt.Print(usage)
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return command(ctx, *name, global.Arg(0), global.Args()[1:])
}

func command(ctx context.Context, name, verb string, args []string) error {
	switch verb {
	case "up":
		return up(ctx, name, args)
	case serveVerb:
		return serve(name, args)
	case "demo":
		return demoCommand(ctx, name, args)
	case "down":
		return down(ctx, name)
	case "exec", "kubectl", "vtysh", "logs":
		info, err := lab.ReadInfo(name)
		if err != nil {
			return err
		}
		return inside(info, verb, args)
	case "kill-node":
		verb = "power-off"
	}
	out, err := lab.Control(ctx, name, append([]string{verb}, args...)...)
	fmt.Print(out)
	return err
}

// inside runs what needs no help of the process that holds the lab.
func inside(info lab.Info, verb string, args []string) error {
	switch {
	case verb == "kubectl":
		return info.BecomeKubectl(args)
	case verb == "vtysh" && len(args) >= 1:
		return info.BecomeVtysh(args[0], args[1:])
	case verb == "exec" && len(args) >= 2:
		return info.Become(args[0], args[1:], []string{"KUBECONFIG=" + info.Kubeconfig})
	case verb == "logs" && len(args) >= 1 && !strings.ContainsRune(args[0], '/'):
		argv := append([]string{"tail", "-n", "+1"}, args[1:]...)
		return become(append(argv, filepath.Join(info.LogDir, args[0]+".log")))
	}
	return fmt.Errorf("run %s: arguments are missing\n\n%s", verb, usage)
}

// become replaces this process.
func become(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}

// downLimit bounds the wait for another process to remove its lab.
const downLimit = 90 * time.Second

// down asks the process that holds the lab to remove it, and makes sure.
func down(ctx context.Context, name string) error {
	_, asked := lab.Control(ctx, name, "down")
	err := lab.Clean(ctx, name)
	if err == nil || asked != nil {
		return err
	}
	return lab.Poll(ctx, downLimit, "lab "+name+" is gone", func(ctx context.Context) error { return lab.Clean(ctx, name) })
}
