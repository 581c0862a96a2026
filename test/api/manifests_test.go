package api

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestEachFolderOfManifestsIsAccepted(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"crd", "rbac", "policy", "controller", "speaker", "default"} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			out, err := shared.kubectl("apply", "--dry-run=server", "-k", filepath.Join("..", "..", "config", folder))
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

// The samples are there for a moment. Tests that run in parallel do so afterwards: there can be one object Settings.
//
//nolint:paralleltest // see above
func TestEachSampleIsAccepted(t *testing.T) {
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			if out, err := shared.kubectl("apply", "--validate=strict", "-f", file); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := shared.kubectl("delete", "--wait=false", "-f", file); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

func TestThereIsASampleOfEachKindThatUsersWrite(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(content)
	}
	for _, kind := range kinds() {
		if kind != "Speaker" && !strings.Contains(all.String(), "kind: "+kind+"\n") {
			t.Errorf("no sample of %s", kind)
		}
	}
}

// kinds returns the kinds of the group that the scheme knows, without their lists.
func kinds() []string {
	var out []string
	for kind := range shared.scheme.KnownTypes(gvk("").GroupVersion()) {
		group := shared.scheme.AllKnownTypes()[gvk(kind)].PkgPath()
		if strings.HasSuffix(group, "/api/v1alpha1") && !strings.HasSuffix(kind, "List") {
			out = append(out, kind)
		}
	}
	slices.Sort(out)
	return out
}

func TestEachKindHasItsScopeStatusCategoryAndOwnShortName(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, kind := range kinds() {
		mapping, err := shared.admin.RESTMapper().RESTMapping(gvk(kind).GroupKind(), gvk(kind).Version)
		if err != nil {
			t.Fatal(err)
		}
		crd := &unstructured.Unstructured{}
		crd.SetAPIVersion("apiextensions.k8s.io/v1")
		crd.SetKind("CustomResourceDefinition")
		if err := shared.admin.Get(t.Context(), client.ObjectKey{Name: mapping.Resource.Resource + ".ballast.dev"}, crd); err != nil {
			t.Fatal(err)
		}
		scope, _, _ := unstructured.NestedString(crd.Object, "spec", "scope")
		categories, _, _ := unstructured.NestedStringSlice(crd.Object, "spec", "names", "categories")
		short, _, _ := unstructured.NestedStringSlice(crd.Object, "spec", "names", "shortNames")
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		_, status, _ := unstructured.NestedMap(versions[0].(map[string]any), "subresources", "status")
		want := "Cluster"
		if kind == "AddressClaim" {
			want = "Namespaced"
		}
		if scope != want || !slices.Equal(categories, []string{"ballast"}) || len(short) != 1 || !status {
			t.Errorf("%s: scope %q, categories %v, short names %v, status %v", kind, scope, categories, short, status)
		}
		for _, s := range short {
			if other := seen[s]; other != "" || !strings.HasPrefix(s, "b") {
				t.Errorf("short name %s of %s clashes with %s", s, kind, other)
			}
			seen[s] = kind
		}
	}
}

func TestExplainSaysWhatAFieldIsFor(t *testing.T) {
	t.Parallel()
	var out string
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-time.After(200 * time.Millisecond) {
		out, err = shared.kubectl("explain", "ipaddresspools.spec.reclaimPolicy", "--api-version=ballast.dev/v1alpha1")
		if err == nil { // the API server publishes its OpenAPI a while after it serves the kinds
			break
		}
	}
	if err != nil || !strings.Contains(strings.Join(strings.Fields(out), " "), "Retain: the holder keeps it") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPodSecurityAdmitsThePods(t *testing.T) {
	t.Parallel()
	strict := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "restricted", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	if err := shared.admin.Create(t.Context(), strict); err != nil {
		t.Fatal(err)
	}
	var controller appsv1.Deployment
	var speaker appsv1.DaemonSet
	if err := shared.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "controller"}, &controller); err != nil {
		t.Fatal(err)
	}
	if err := shared.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "speaker"}, &speaker); err != nil {
		t.Fatal(err)
	}
	try := func(ns string, spec corev1.PodSpec) error {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "try"}, Spec: spec}
		return shared.admin.Create(t.Context(), pod, client.DryRunAll)
	}
	if err := try("restricted", controller.Spec.Template.Spec); err != nil {
		t.Errorf("the controller's pod needs more than the restricted level: %v", err)
	}
	if err := try(namespace, speaker.Spec.Template.Spec); err != nil {
		t.Errorf("the speaker's pod is refused in its own namespace: %v", err)
	}
	if err := try("restricted", speaker.Spec.Template.Spec); err == nil {
		t.Error("the restricted level admits the speaker's pod: the levels are not enforced here")
	}
	for _, image := range []string{controller.Spec.Template.Spec.Containers[0].Image, speaker.Spec.Template.Spec.Containers[0].Image} {
		if image != "ballast:dev" {
			t.Errorf("image is %q", image)
		}
	}
}
