package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
)

const (
	drainLong = `Have a node hand over all that it announces, and keep it from announcing.

The Node gets the annotation ballast.dev/drain, which its speaker heeds: other nodes take
over the addresses that it answers for in layer 2, and its BGP routes are withdrawn. Pods
stay; for them there is kubectl drain. Established connections to an address that moves in
layer 2 break, because the node that takes it over does not know them.

The command waits until no Service names the node any more as the one that answers for it,
then says which node each of them went to.`

	drainExample = `  # Before maintenance, and after it
  kubectl ballast drain n1
  kubectl ballast undrain n1`

	undrainLong = `Let a drained node announce again: remove the annotation ballast.dev/drain from it.

Its BGP routes come back. Layer-2 addresses stay where they are; kubectl ballast rebalance
spreads them anew.`
)

// drain is the commands drain and undrain, and their flags.
type drain struct {
	streams    genericiooptions.IOStreams
	connection *genericclioptions.ConfigFlags
	undo       bool
	timeout    time.Duration
}

func newDrain(streams genericiooptions.IOStreams, connection *genericclioptions.ConfigFlags) *cobra.Command {
	d := &drain{streams: streams, connection: connection}
	cmd := &cobra.Command{
		Use:     "drain NODE",
		Short:   "Have a node hand over all that it announces",
		Long:    drainLong,
		Example: drainExample,
		Args:    oneNode,
		RunE:    func(cmd *cobra.Command, args []string) error { return d.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().BoolVar(&d.undo, "undo", false, "Let the node announce again, as undrain does.")
	cmd.Flags().DurationVar(&d.timeout, "timeout", 30*time.Second, "How long to wait until others have taken over; 0 does not wait.")
	return cmd
}

func newUndrain(streams genericiooptions.IOStreams, connection *genericclioptions.ConfigFlags) *cobra.Command {
	d := &drain{streams: streams, connection: connection, undo: true}
	return &cobra.Command{
		Use:   "undrain NODE",
		Short: "Let a drained node announce again",
		Long:  undrainLong,
		Args:  oneNode,
		RunE:  func(cmd *cobra.Command, args []string) error { return d.run(cmd.Context(), args[0]) },
	}
}

func oneNode(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("give one NODE; see %s --help", cmd.CommandPath())
	}
	return nil
}

func (d *drain) run(ctx context.Context, name string) error {
	c, err := connect(d.connection, d.streams.ErrOut)
	if err != nil {
		return err
	}
	var n corev1.Node
	err = c.client.Get(ctx, client.ObjectKey{Name: name}, &n)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no Node %s", name)
	}
	if err != nil {
		return fmt.Errorf("get Node: %w", err)
	}
	if d.undo {
		return d.release(ctx, c, &n)
	}
	return d.drain(ctx, c, &n)
}

// drain annotates a Node, and waits until it answers for nothing.
func (d *drain) drain(ctx context.Context, c *cluster, n *corev1.Node) error {
	before, err := c.answers(ctx)
	if err != nil {
		return err
	}
	before = slices.DeleteFunc(before, func(a answer) bool { return a.node != n.Name })
	if len(before) == 0 {
		say(d.streams.Out, "Node %s answers for no address in layer 2. Its BGP routes, if it has any, are withdrawn.", n.Name)
	} else {
		say(d.streams.Out, "Node %s answers for %s. Others take over, and established connections to these addresses break. Its BGP routes, if it has any, are withdrawn.", n.Name, amount(before))
	}
	if n.Annotations[v1alpha1.AnnotationDrain] == "true" {
		say(d.streams.Out, "Node %s has been asked to hand over before.", n.Name)
	} else if err := annotate(ctx, c.client, n, v1alpha1.AnnotationDrain, "true"); err != nil {
		return fmt.Errorf("drain Node %s: %w", n.Name, err)
	}
	if d.timeout <= 0 {
		return nil
	}
	after, done, err := c.watch(ctx, d.timeout, func(seen []answer) bool {
		return !slices.ContainsFunc(seen, func(a answer) bool { return a.node == n.Name })
	})
	if err != nil {
		return err
	}
	if err := d.report(before, after); err != nil {
		return err
	}
	if !done {
		left := slices.DeleteFunc(after, func(a answer) bool { return a.node != n.Name })
		return fmt.Errorf("after %s Node %s still answers for %s; is its speaker running? It stays asked to hand over", d.timeout, n.Name, amount(left))
	}
	say(d.streams.Out, "Node %s is drained.", n.Name)
	return nil
}

// report says what became of what the node answered for.
func (d *drain) report(before, after []answer) error {
	if len(before) == 0 {
		return nil
	}
	rows := [][]string{{"SERVICE", "ADDRESSES", "NODE", "REASON"}}
	for _, a := range before {
		i := slices.IndexFunc(after, func(x answer) bool { return x.service == a.service })
		if i < 0 {
			continue // the Service is gone
		}
		rows = append(rows, []string{a.service, list(after[i].addresses), orDash(after[i].node), orDash(after[i].why)})
	}
	var b bytes.Buffer
	columns(&b, rows)
	if _, err := d.streams.Out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print nodes: %w", err)
	}
	return nil
}

// release removes the annotation, and says what else keeps the node from announcing.
func (d *drain) release(ctx context.Context, c *cluster, n *corev1.Node) error {
	if _, set := n.Annotations[v1alpha1.AnnotationDrain]; !set {
		say(d.streams.Out, "Node %s is not drained by kubectl ballast.", n.Name)
	} else {
		if err := annotate(ctx, c.client, n, v1alpha1.AnnotationDrain, ""); err != nil {
			return fmt.Errorf("undrain Node %s: %w", n.Name, err)
		}
		say(d.streams.Out, "Node %s may announce again. Layer-2 addresses do not come back by themselves: see kubectl ballast rebalance.", n.Name)
	}
	left := config.Node(n, config.Settings{})
	if left.Drain != "" {
		say(d.streams.ErrOut, "warning: Node %s is still being taken out of service: %s", n.Name, left.Drain)
	}
	if left.Excluded {
		say(d.streams.ErrOut, "warning: Node %s has the label %s, and announces only if ignoreExcludeLabel is set in Settings", n.Name, corev1.LabelNodeExcludeBalancers)
	}
	return nil
}

// annotate sets an annotation of an object; "" removes it.
func annotate(ctx context.Context, c client.Client, o client.Object, key, value string) error {
	before, ok := o.DeepCopyObject().(client.Object)
	if !ok {
		return errors.New("copy object: it is none of the API")
	}
	annotations := map[string]string{}
	for k, v := range o.GetAnnotations() {
		annotations[k] = v
	}
	annotations[key] = value
	if value == "" {
		delete(annotations, key)
	}
	o.SetAnnotations(annotations)
	return c.Patch(ctx, o, client.MergeFrom(before))
}

// amount counts addresses and Services, for people.
func amount(of []answer) string {
	return fmt.Sprintf("%s of %s", plural(len(owners(of)), "address", "addresses"), plural(len(of), "Service", "Services"))
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
