package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ballast-lb/ballast/test/lab"
)

// wanService is the one thing that the demo adds to config/samples: an address of each
// family for the routers.
const wanService = `apiVersion: v1
kind: Service
metadata:
  name: demo-wan
  annotations:
    ballast.dev/address-pool: wan
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector:
    app: demo
  ports:
  - name: http
    port: 80
    targetPort: http
`

// demoCommand runs the demo in this process and removes the lab, or, with KEEP=1, in the background and leaves it.
func demoCommand(ctx context.Context, name string, args []string) error {
	o, _, err := upFlags(name, "demo", args)
	if err != nil {
		return err
	}
	if keep := os.Getenv("KEEP"); keep != "" && keep != "0" {
		if err := background(ctx, name, append([]string{"--demo"}, args...)); err != nil {
			return err
		}
		fmt.Print(strings.ReplaceAll(whatNext, "LAB", strings.TrimSuffix("bin/lab --name "+name, " --name blst")))
		return nil
	}
	began := time.Now()
	o.Progress = func(message string) { fmt.Println("  " + message) }
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	err = demonstrate(ctx, l, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, l.Diagnostics())
	}
	fmt.Println("\nRemoving everything ...")
	err = errors.Join(err, l.Down())
	if err == nil {
		fmt.Printf("Done in %s. KEEP=1 make demo leaves it up, to play with.\n", time.Since(began).Round(time.Second))
	}
	return err
}

const whatNext = `
The lab is still up. Try:
  LAB status
  LAB kubectl get services,speakers
  LAB kubectl describe service demo
  LAB exec lan ip neigh               # which node answers for the LAN address
  LAB power-off n1                    # ... and then look again; power-on n1 brings it back
  LAB vtysh r1 show ip bgp
  LAB logs speaker-n1
  LAB down                            # removes everything
`

// demonstration prints what it does as it goes.
type demonstration struct {
	lab *lab.Lab
	out io.Writer
	n   int
}

// demonstrate shows addresses at work in a lab that is up.
func demonstrate(ctx context.Context, l *lab.Lab, out io.Writer) error {
	d := &demonstration{lab: l, out: out}
	for _, step := range []func(context.Context) error{d.applySamples, d.runPods, d.showAddresses, d.showRoutes, d.reachFromLAN, d.reachFromWAN, d.loseOwner} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("demonstrate: %w", err)
		}
	}
	d.say("What happened: the controller gave each Service an address of its pool. For the LAN address one node's\n" +
		"speaker answers ARP, and when that node died another one did; for the WAN addresses every node's speaker\n" +
		"told the router, by BGP, that it is a way there. From the node on it is kube-proxy that carries the\n" +
		"traffic to a pod.")
	return nil
}

func (d *demonstration) say(text string) { fmt.Fprintf(d.out, "\n%s\n", text) }

func (d *demonstration) step(text string) {
	d.n++
	d.say(fmt.Sprintf("%d. %s", d.n, text))
}

// show prints a command and its output, indented.
func (d *demonstration) show(command, output string) {
	output = strings.TrimRight(output, "\n")
	fmt.Fprintf(d.out, "\n   $ %s\n   %s\n", command, strings.ReplaceAll(output, "\n", "\n   "))
}

func (d *demonstration) applySamples(ctx context.Context) error {
	root, err := lab.RepositoryRoot()
	if err != nil {
		return err
	}
	d.step("The operator says which addresses there are and how to announce them: pools, advertisements, BGP peers.")
	samples := filepath.Join(root, "config", "samples")
	out, err := d.lab.Kubectl(ctx, "apply", "-f", samples)
	d.show("kubectl apply -f config/samples", out)
	if err != nil {
		return err
	}
	d.step("And a Service that wants one address of each family from the pool wan.")
	if err := d.lab.Apply(ctx, wanService); err != nil {
		return err
	}
	d.show("kubectl apply -f demo-wan.yaml", wanService)
	return nil
}

// runPods gives every Service of type LoadBalancer two pods: in a lab nobody makes Pods from Deployments.
func (d *demonstration) runPods(ctx context.Context) error {
	services, err := d.services(ctx)
	if err != nil {
		return err
	}
	if len(services) < 2 {
		return fmt.Errorf("list services: config/samples should hold at least one of type LoadBalancer, found %d in all", len(services))
	}
	served := map[string]bool{}
	for _, s := range services {
		key := metav1.FormatLabelSelector(metav1.SetAsLabelSelector(s.Spec.Selector))
		if served[key] {
			continue
		}
		served[key] = true
		for _, n := range d.lab.Nodes()[:min(2, len(d.lab.Nodes()))] {
			spec := lab.Backend{Namespace: s.Namespace, App: "demo", Node: n.Name, Labels: s.Spec.Selector}
			if target := s.Spec.Ports[0].TargetPort; target.Type == intstr.String {
				spec.PortName = target.StrVal
			} else {
				spec.Port = uint16(target.IntVal)
			}
			if _, err := d.lab.AddBackend(ctx, spec); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *demonstration) services(ctx context.Context) ([]corev1.Service, error) {
	list, err := d.lab.Client().CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	var out []corev1.Service
	for _, s := range list.Items {
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			out = append(out, s)
		}
	}
	return out, nil
}

func (d *demonstration) showAddresses(ctx context.Context) error {
	d.step("The controller gives each Service its addresses (EXTERNAL-IP).")
	err := d.lab.WaitFor(ctx, "every Service has an address", func(ctx context.Context) error {
		services, err := d.services(ctx)
		if err != nil {
			return err
		}
		for _, s := range services {
			if len(s.Status.LoadBalancer.Ingress) == 0 {
				return fmt.Errorf("service %s has none: %v", s.Name, s.Status.Conditions)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	out, err := d.lab.Kubectl(ctx, "get", "services")
	if err != nil {
		return err
	}
	d.show("kubectl get services", out)
	return nil
}

// addresses returns what a Service has been given.
func (d *demonstration) addresses(ctx context.Context, service string) ([]netip.Addr, error) {
	s, err := d.lab.Client().CoreV1().Services("default").Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get service: %w", err)
	}
	var out []netip.Addr
	for _, i := range s.Status.LoadBalancer.Ingress {
		a, err := netip.ParseAddr(i.IP)
		if err != nil {
			return nil, fmt.Errorf("read ingress of %s: %w", service, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func (d *demonstration) showRoutes(ctx context.Context) error {
	d.step("The speakers tell the router r1, by BGP, that every node is a way to demo-wan.")
	addresses, err := d.addresses(ctx, "demo-wan")
	if err != nil {
		return err
	}
	for _, a := range addresses {
		prefix := netip.PrefixFrom(a, a.BitLen())
		err := d.lab.WaitFor(ctx, "r1 knows "+a.String()+" from every node", func(ctx context.Context) error {
			routes, err := d.lab.RouterRoutes(ctx, "r1")
			if got := len(routes.NextHops(prefix)); err == nil && got != len(d.lab.Nodes()) {
				err = fmt.Errorf("it knows %d ways", got)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	out, err := d.lab.Kubectl(ctx, "get", "speakers")
	if err != nil {
		return err
	}
	d.show("kubectl get speakers", out)
	if d.lab.RouterKind() != lab.FRR {
		routes, err := d.lab.RouterRoutes(ctx, "r1")
		d.show("lab routes r1", routes.String())
		return err
	}
	for _, command := range []string{"show ip bgp", "show ip route bgp", "show bgp ipv6 unicast", "show ipv6 route bgp"} {
		out, err := d.lab.Vtysh(ctx, "r1", command)
		if err != nil {
			return err
		}
		d.show("vtysh -c '"+command+"'   (on r1)", trimLegend(out))
	}
	return nil
}

// trimLegend drops FRR's explanation of its letters.
func trimLegend(table string) string {
	lines := strings.Split(strings.TrimSpace(table), "\n")
	for i, line := range lines {
		if strings.Contains(line, "Network ") || strings.HasPrefix(line, "B>") {
			return strings.Join(lines[i:], "\n")
		}
	}
	return table
}

func (d *demonstration) reachFromLAN(ctx context.Context) error {
	d.step("A host on the LAN asks for the address of demo. One node's speaker answers its ARP request.")
	addresses, err := d.addresses(ctx, "demo")
	if err != nil {
		return err
	}
	if err := d.curl(ctx, "lan", addresses); err != nil {
		return err
	}
	out, err := d.lab.Exec(ctx, "lan", "ip", "neigh", "show", addresses[0].String())
	if err != nil {
		return err
	}
	d.show("ip neigh show "+addresses[0].String()+"   (on the LAN client)", out+d.owner(out))
	return nil
}

// owner names the node whose hardware address a neighbor entry shows.
func (d *demonstration) owner(neighbor string) string {
	for _, n := range d.lab.Nodes() {
		if strings.Contains(neighbor, n.MAC()) {
			return "(that is " + n.Name + ")"
		}
	}
	return ""
}

func (d *demonstration) reachFromWAN(ctx context.Context) error {
	d.step("A host on the WAN asks for the addresses of demo-wan; the router sends it to one of the nodes.")
	addresses, err := d.addresses(ctx, "demo-wan")
	if err != nil {
		return err
	}
	return d.curl(ctx, "wan", addresses)
}

// loseOwner takes the node away that answers for the LAN address, while a client goes on asking.
func (d *demonstration) loseOwner(ctx context.Context) error {
	addresses, err := d.addresses(ctx, "demo")
	if err != nil {
		return err
	}
	a := addresses[0]
	owner, err := d.ownerOf(ctx, a, "")
	if err != nil {
		return err
	}
	d.step(fmt.Sprintf("Node %s, which answers for %s, loses power, while the LAN client opens a new connection every 10 ms.", owner, a))
	node, err := d.lab.NodeNamed(owner)
	if err != nil {
		return err
	}
	prober, err := d.lab.StartProber(lab.Probe{From: "lan", Targets: []netip.AddrPort{netip.AddrPortFrom(a, 80)}})
	if err != nil {
		return err
	}
	defer prober.Stop()
	began := time.Now()
	if err := node.PowerOff(ctx); err != nil {
		return err
	}
	next, err := d.ownerOf(ctx, a, owner)
	if err != nil {
		return err
	}
	if err := node.PowerOn(ctx); err != nil {
		return err
	}
	ended := time.Now() // what is under way then has a second more
	report := prober.Stop().Report(began, ended)
	d.say(fmt.Sprintf("   %s answers now. The longest time without an answered connection was %s.\n   %s is back by now, and takes nothing back.",
		next, report.Gap.Round(10*time.Millisecond), owner))
	return nil
}

// ownerOf returns the node that answers for an address, once there is one that is another than not.
func (d *demonstration) ownerOf(ctx context.Context, a netip.Addr, not string) (string, error) {
	var owner string
	err := d.lab.WaitFor(ctx, a.String()+" is answered for", func(ctx context.Context) error {
		answers, err := d.lab.Ask(ctx, "cp", 100*time.Millisecond, a)
		if err != nil {
			return err
		}
		macs := answers.Owners(a)
		if len(macs) != 1 || d.lab.NameOf(macs[0]) == not {
			return fmt.Errorf("it is at %v", macs)
		}
		owner = d.lab.NameOf(macs[0])
		return nil
	})
	return owner, err
}

// curl shows the first answer from each address.
func (d *demonstration) curl(ctx context.Context, from string, addresses []netip.Addr) error {
	for _, a := range addresses {
		url := "http://" + netip.AddrPortFrom(a, 80).String() + "/"
		url = strings.Replace(url, ":80/", "/", 1)
		var answer string
		err := d.lab.WaitFor(ctx, from+" reaches "+url, func(ctx context.Context) (err error) {
			answer, err = d.lab.Exec(ctx, from, "curl", "-sS", "--max-time", "3", url)
			return err
		})
		if err != nil {
			return err
		}
		d.show("curl "+url+"   (on the "+strings.ToUpper(from)+" client)", answer)
	}
	return nil
}
