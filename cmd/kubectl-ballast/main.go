// Kubectl-ballast is the kubectl plugin of Ballast: kubectl runs it as "kubectl ballast".
// Its command plan says what an edit of IPAddressPools would do to those who hold addresses
// or wait for one, by the same pure code that the controller decides with; it changes nothing:
// what it sends are dry runs. Its commands drain, undrain and rebalance ask speakers, by
// annotations on Nodes and Speakers, to move what they announce.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/ballast-lb/ballast/internal/version"
)

// Exit statuses.
const (
	exitOK       = 0
	exitError    = 1
	exitDisrupts = 2 // with --detailed-exitcode
)

// errDisrupts says that the planned edit takes an address from somebody; it is no failure.
var errDisrupts = errors.New("somebody loses or changes an address")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(status)
}

// run runs one command line and returns the exit status.
func run(ctx context.Context, streams genericiooptions.IOStreams, args []string) int {
	root := newRoot(streams)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errDisrupts):
		return exitDisrupts
	}
	say(streams.ErrOut, "error: %v", err)
	return exitError
}

func newRoot(streams genericiooptions.IOStreams) *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-ballast",
		Short:         "Look into Ballast, the load balancer, and tell it to move what it announces",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl ballast"},
		Version:       version.String("kubectl-ballast"),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	connection := genericclioptions.NewConfigFlags(true)
	connection.AddFlags(root.PersistentFlags())
	root.AddCommand(
		newPlan(streams, connection), newDrain(streams, connection), newUndrain(streams, connection),
		newRebalance(streams, connection), newVersion(),
	)
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this plugin",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { cmd.Println(cmd.Root().Version) },
	}
}

// say writes a line for people. That it cannot be written is nobody's concern.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}
