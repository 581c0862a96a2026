package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	lanYAML = "apiVersion: ballast.dev/v1alpha1\nkind: IPAddressPool\nmetadata: {name: lan}\nspec: {addresses: [192.0.2.0/24]}\n"
	wanJSON = `{"apiVersion":"ballast.dev/v1alpha1","kind":"IPAddressPool","metadata":{"name":"wan"},"spec":{"addresses":["198.51.100.1"]}}`
)

// folder writes files into a new folder and returns it.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadFiles(t *testing.T) {
	t.Parallel()
	advertisement := "apiVersion: ballast.dev/v1alpha1\nkind: L2Advertisement\nmetadata: {name: lan}\n"
	for name, row := range map[string]struct {
		files   map[string]string // of a folder, which is read
		stdin   string            // read if there are no files
		pools   string
		ignored string
		err     string
	}{
		"one document":                             {stdin: lanYAML, pools: "lan"},
		"YAML that begins with a brace":            {stdin: "{apiVersion: ballast.dev/v1alpha1, kind: IPAddressPool, metadata: {name: lan},\n spec: {addresses: [192.0.2.0/24]}}\n---\n" + wanJSON, pools: "lan wan"},
		"several documents, some of only comments": {stdin: "# first\n---\n" + lanYAML + "---\n# nothing\n---\n" + wanJSON, pools: "lan wan"},
		"JSON, one object after the other":         {stdin: wanJSON + "\n" + strings.ReplaceAll(wanJSON, `"wan"`, `"wan2"`), pools: "wan wan2"},
		"a list, as kubectl get prints it":         {stdin: `{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":""},"items":[` + wanJSON + `]}`, pools: "wan"},
		"the YAML and JSON files of a folder":      {files: map[string]string{"a.yaml": lanYAML, "b.json": wanJSON, "c.txt": "no: pool"}, pools: "lan wan"},
		"what kubectl get prints, with metadata and status": {
			stdin: lanYAML + "status: {retained: [192.0.2.1], conditions: [{type: Ready, status: \"True\", reason: Ready, message: \"\", lastTransitionTime: \"2026-01-01T00:00:00Z\"}]}\n", pools: "lan",
		},
		"other kinds are named":                      {stdin: lanYAML + "---\n" + advertisement + "---\napiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n", pools: "lan", ignored: "L2Advertisement lan in standard input; Service shop/web in standard input"},
		"an unknown field is an error":               {files: map[string]string{"a.yaml": strings.Replace(lanYAML, "addresses", "adresses", 1)}, err: `a.yaml: decode IPAddressPool: strict decoding error: unknown field "spec.adresses"`},
		"a field in other letters is an error":       {stdin: strings.Replace(lanYAML, "addresses", "Addresses", 1), err: `unknown field "spec.Addresses"`},
		"a field that stands twice is an error":      {stdin: lanYAML + "spec: {}\n", err: `key "spec" already set`},
		"a wrong type is an error":                   {stdin: strings.Replace(lanYAML, "[192.0.2.0/24]", "192.0.2.0/24", 1), err: "cannot unmarshal string"},
		"another version is an error":                {stdin: strings.Replace(lanYAML, "v1alpha1", "v1", 1), err: "decode IPAddressPool lan: its apiVersion is ballast.dev/v1, not ballast.dev/v1alpha1"},
		"another version of an ignored kind too":     {stdin: strings.Replace(advertisement, "v1alpha1", "v1", 1), err: "decode L2Advertisement lan: its apiVersion is ballast.dev/v1"},
		"somebody else's IPAddressPool is an error":  {stdin: strings.Replace(lanYAML, "ballast.dev/v1alpha1", "metallb.io/v1beta1", 1), err: "its apiVersion is metallb.io/v1beta1, not"},
		"what is no object is an error":              {stdin: lanYAML + "---\nfoo: bar\n", err: "standard input: document 2: decode object: apiVersion or kind is missing"},
		"what is no YAML is an error":                {files: map[string]string{"a.yaml": "a: [1"}, err: "a.yaml: "},
		"JSON that is cut off is an error":           {stdin: wanJSON[:40], err: "read standard input: "},
		"a pool without a name is an error":          {stdin: strings.Replace(lanYAML, "name: lan", "", 1), err: "metadata.name is missing"},
		"a pool that stands there twice is an error": {files: map[string]string{"a.yaml": lanYAML, "b.yaml": lanYAML}, err: "a.yaml already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := "-"
			if row.files != nil {
				from = folder(t, row.files)
			}
			pools, ignored, err := readFiles([]string{from}, strings.NewReader(row.stdin))
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("error: got %v, want %q", err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range pools {
				names = append(names, p.Name)
			}
			if got := strings.Join(names, " "); got != row.pools {
				t.Errorf("pools: got %q, want %q", got, row.pools)
			}
			if got := strings.Join(ignored, "; "); got != row.ignored {
				t.Errorf("ignored: got %q, want %q", got, row.ignored)
			}
		})
	}
}

func TestAFileThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	if _, _, err := readFiles([]string{filepath.Join(t.TempDir(), "pool.yaml")}, nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}
