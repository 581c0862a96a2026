package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

const (
	planLong = `Say what would become of addresses if IPAddressPools were applied or removed.

The plan lists the Services and AddressClaims that would lose, change or get an address,
or go on waiting, and what would become of each pool. Nothing is changed: the plan reads
what there is, and decides as the controller does.

Each pool of the files is taken as it stands there, with the defaults of the API server,
and keeps nothing of the spec that it has now. A removed pool goes if nobody holds an
address of it; else it waits for its holders (reclaimPolicy Retain) or gives them another
address (Reassign).

The exit status is 0; 1 after an error; with --detailed-exitcode, 2 if somebody would lose
or change an address.`

	planExample = `  # What would this edit do?
  kubectl ballast plan -f pool.yaml

  # What would it do if the files of this folder were all pools there are?
  kubectl ballast plan -f pools/ --prune

  # What if the pool lan were deleted?
  kubectl ballast plan --remove lan

  # Edit what there is, and look first
  kubectl get ipaddresspool lan -o yaml | sed s/192.0.2.0/198.51.100.0/ | kubectl ballast plan -f -

  # In CI: fail if somebody would lose or change an address
  kubectl ballast plan -f pools/ --detailed-exitcode`
)

// plan is the command plan, and its flags.
type plan struct {
	streams    genericiooptions.IOStreams
	connection *genericclioptions.ConfigFlags
	filenames  []string
	remove     []string
	prune      bool
	class      string
	output     string
	all        bool
	detailed   bool
}

func newPlan(streams genericiooptions.IOStreams, connection *genericclioptions.ConfigFlags) *cobra.Command {
	p := &plan{streams: streams, connection: connection}
	cmd := &cobra.Command{
		Use:     "plan (-f FILE | --remove POOL)...",
		Short:   "Say who would get, lose or change an address by an edit of pools",
		Long:    planLong,
		Example: planExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.validate(); err != nil {
				return err
			}
			return p.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVarP(&p.filenames, "filename", "f", nil, "A file with IPAddressPools (YAML or JSON), a folder of such files, or - for standard input. Can be repeated.")
	flags.StringSliceVar(&p.remove, "remove", nil, "The name of an IPAddressPool: plan as if it were deleted. Can be repeated.")
	flags.BoolVar(&p.prune, "prune", false, "The files hold all pools: those that they lack are removed.")
	flags.StringVar(&p.class, "load-balancer-class", "", "That of the controller: plan for Services of this spec.loadBalancerClass; empty: for those without one.")
	flags.StringVarP(&p.output, "output", "o", outputTable, "How to print the plan: table, json or yaml.")
	flags.BoolVar(&p.all, "all", false, "Print those too for whom nothing changes.")
	flags.BoolVar(&p.detailed, "detailed-exitcode", false, "Exit with status 2 if somebody would lose or change an address.")
	return cmd
}

func (p *plan) validate() error {
	switch {
	case len(p.filenames) == 0 && len(p.remove) == 0:
		return errors.New("nothing to plan: give -f FILE or --remove POOL")
	case p.prune && len(p.filenames) == 0:
		return errors.New("--prune needs -f: the files say which pools stay")
	case !slices.Contains([]string{outputTable, outputJSON, outputYAML}, p.output):
		return fmt.Errorf("unknown output %q: it is table, json or yaml", p.output)
	}
	return nil
}

// run reads files and cluster, plans, and prints.
func (p *plan) run(ctx context.Context) error {
	written, ignored, err := readFiles(p.filenames, p.streams.In)
	if err != nil {
		return err
	}
	for _, what := range ignored {
		say(p.streams.ErrOut, "ignored: %s; only IPAddressPools are planned", what)
	}
	if len(p.filenames) > 0 && len(written) == 0 {
		return errors.New("there is no IPAddressPool in what -f names")
	}
	c, err := connect(p.connection, p.streams.ErrOut)
	if err != nil {
		return err
	}
	live, err := c.gather(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	e := edit{remove: p.remove, prune: p.prune}
	if e.write, err = c.defaulted(ctx, live.pools, written); err != nil {
		return err
	}
	planned, err := e.apply(live.pools, now)
	if err != nil {
		return err
	}
	var settings *v1alpha1.Settings
	if len(live.settings) > 0 {
		settings = &live.settings[0]
	}
	f := foretell(situation{
		holders: live.holders, reserved: live.reserved, settings: settings, class: p.class, now: now, live: live.pools, planned: planned, named: e.named(),
	})
	return p.report(f)
}

func (p *plan) report(f forecast) error {
	if f.Unsettled > 0 {
		say(p.streams.ErrOut, "warning: the status of %d Services or AddressClaims is not what the controller would decide now. Is it running, with --load-balancer-class=%q? The plan takes for now what it would decide.", f.Unsettled, p.class)
	}
	disrupts := f.Summary[loses]+f.Summary[changes] > 0
	if !p.all {
		f = f.changed()
	}
	if err := f.print(p.streams.Out, p.output); err != nil {
		return err
	}
	if p.detailed && disrupts {
		return errDisrupts
	}
	return nil
}

// find returns the pool of a name, or nil.
func find(pools []v1alpha1.IPAddressPool, name string) *v1alpha1.IPAddressPool {
	i := slices.IndexFunc(pools, func(p v1alpha1.IPAddressPool) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &pools[i]
}
