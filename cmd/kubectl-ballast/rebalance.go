package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

const (
	rebalanceLong = `Spread the layer-2 addresses evenly over the nodes that can announce them.

An address stays with the node that answers for it, also when other nodes come or come back:
nothing moves by itself. This command says how many addresses each node answers for, and has
the speakers even that out once, as far as advertisements and their preferences allow.

Established connections to an address that moves break, because the node that takes it over
does not know them. What is announced by BGP does not move.`

	rebalanceExample = `  # Look first: it asks before it does anything
  kubectl ballast rebalance

  # In a script
  kubectl ballast rebalance --yes`

	// settled is for how long nothing must move before a rebalancing counts as over.
	settled = 3 * time.Second
)

// errUnconfirmed says that the user did not say yes.
var errUnconfirmed = errors.New("nothing was changed: answer y, or give --yes")

// rebalance is the command rebalance, and its flags.
type rebalance struct {
	streams    genericiooptions.IOStreams
	connection *genericclioptions.ConfigFlags
	yes        bool
	timeout    time.Duration
}

func newRebalance(streams genericiooptions.IOStreams, connection *genericclioptions.ConfigFlags) *cobra.Command {
	r := &rebalance{streams: streams, connection: connection}
	cmd := &cobra.Command{
		Use:     "rebalance",
		Short:   "Spread the layer-2 addresses evenly over the nodes",
		Long:    rebalanceLong,
		Example: rebalanceExample,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return r.run(cmd.Context()) },
	}
	cmd.Flags().BoolVarP(&r.yes, "yes", "y", false, "Do not ask.")
	cmd.Flags().DurationVar(&r.timeout, "timeout", 30*time.Second, "How long to watch what moves, at most; 0 does not watch.")
	return cmd
}

func (r *rebalance) run(ctx context.Context) error {
	c, err := connect(r.connection, r.streams.ErrOut)
	if err != nil {
		return err
	}
	var speakers v1alpha1.SpeakerList
	if err := c.client.List(ctx, &speakers); err != nil {
		return fmt.Errorf("list Speakers: %w", err)
	}
	if len(speakers.Items) == 0 {
		return errors.New("there is no Speaker: no node announces anything")
	}
	before, err := c.answers(ctx)
	if err != nil {
		return err
	}
	var nodes []string
	for _, s := range speakers.Items {
		nodes = append(nodes, s.Name)
	}
	if err := r.print(nodes, before); err != nil {
		return err
	}
	if len(owners(before)) == 0 {
		say(r.streams.Out, "No node answers for an address in layer 2: there is nothing to spread.")
		return nil
	}
	if err := r.confirm(); err != nil {
		return err
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	for i := range speakers.Items {
		s := &speakers.Items[i]
		if err := annotate(ctx, c.client, s, v1alpha1.AnnotationRebalance, now); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("ask Speaker %s to take its share: %w", s.Name, err)
		}
	}
	if r.timeout <= 0 {
		return nil
	}
	return r.follow(ctx, c, nodes, before)
}

// confirm warns, and asks unless it need not.
func (r *rebalance) confirm() error {
	say(r.streams.Out, "Established connections to an address that moves break.")
	if r.yes {
		return nil
	}
	_, _ = fmt.Fprint(r.streams.Out, "Spread the addresses now? [y/N] ")
	line, err := bufio.NewReader(r.streams.In).ReadString('\n')
	if said := strings.ToLower(strings.TrimSpace(line)); said == "y" || said == "yes" {
		return nil
	}
	if err != nil {
		say(r.streams.Out, "") // nobody ended the line
	}
	return errUnconfirmed
}

// follow watches until nothing moves any more, and says what did.
func (r *rebalance) follow(ctx context.Context, c *cluster, nodes []string, before []answer) error {
	last, since := owners(before), time.Now()
	after, _, err := c.watch(ctx, r.timeout, func(seen []answer) bool {
		if now := owners(seen); !maps.Equal(now, last) {
			last, since = now, time.Now()
		}
		return time.Since(since) >= settled
	})
	if err != nil {
		return err
	}
	moved := 0
	was := owners(before)
	for address, node := range owners(after) {
		if was[address] != "" && was[address] != node {
			moved++
		}
	}
	say(r.streams.Out, "%s moved.", plural(moved, "address", "addresses"))
	return r.print(nodes, before, after)
}

// print writes how many addresses each node answers for: once, or before and after.
func (r *rebalance) print(nodes []string, times ...[]answer) error {
	head := []string{"NODE", "ADDRESSES"}
	if len(times) > 1 {
		head = []string{"NODE", "BEFORE", "NOW"}
	}
	of := map[string][]string{}
	for i, one := range times {
		count := counts(owners(one))
		for _, node := range slices.Concat(nodes, slices.Collect(maps.Keys(count))) {
			if of[node] == nil {
				of[node] = slices.Repeat([]string{"0"}, len(times))
			}
			of[node][i] = strconv.Itoa(count[node])
		}
	}
	rows := [][]string{head}
	for _, node := range slices.Sorted(maps.Keys(of)) {
		rows = append(rows, append([]string{node}, of[node]...))
	}
	var b bytes.Buffer
	columns(&b, rows)
	if _, err := r.streams.Out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print nodes: %w", err)
	}
	return nil
}
