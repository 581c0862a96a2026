package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// poolKind is the one kind that is planned.
const poolKind = "IPAddressPool"

// written is a pool, and the file that it stands in.
type written struct {
	v1alpha1.IPAddressPool
	file string
}

// reader collects what stands in files.
type reader struct {
	decoder runtime.Decoder
	pools   []written
	ignored []string
}

// readFiles reads the pools of files, folders and, for "-", of stdin, and names what else
// stands there. Unknown fields are errors, and so is a pool that stands there twice.
func readFiles(names []string, stdin io.Reader) (pools []written, ignored []string, err error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, nil, fmt.Errorf("register kinds: %w", err)
	}
	r := &reader{decoder: serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()}
	for _, name := range names {
		if err := r.path(name, stdin); err != nil {
			return nil, nil, err
		}
	}
	return r.pools, r.ignored, nil
}

// path reads what one -f names.
func (r *reader) path(name string, stdin io.Reader) error {
	if name == "-" {
		return r.file("standard input", func() ([]byte, error) { return io.ReadAll(stdin) })
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("read file: %w", err)
	}
	files := []string{name}
	if info.IsDir() {
		entries, err := os.ReadDir(name)
		if err != nil {
			return fmt.Errorf("read folder: %w", err)
		}
		files = nil
		for _, e := range entries {
			if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
				files = append(files, filepath.Join(name, e.Name()))
			}
		}
	}
	for _, file := range files {
		if err := r.file(file, func() ([]byte, error) { return os.ReadFile(file) }); err != nil {
			return err
		}
	}
	return nil
}

// file reads all documents of one file.
func (r *reader) file(name string, read func() ([]byte, error)) error {
	data, err := read()
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	documents, err := split(data)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	for i, document := range documents {
		asJSON, err := yaml.YAMLToJSONStrict(document)
		if err == nil {
			err = r.object(name, asJSON)
		}
		if err != nil && len(documents) > 1 {
			err = fmt.Errorf("document %d: %w", i+1, err)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	return nil
}

// split returns the documents of a file: JSON's one after the other, or YAML's between
// lines of "---". What begins with a brace may be either.
func split(data []byte) ([][]byte, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		decoder := json.NewDecoder(bytes.NewReader(data))
		documents, err := all(func() ([]byte, error) {
			var document json.RawMessage
			err := decoder.Decode(&document)
			return document, err
		})
		if err == nil {
			return documents, nil
		}
	}
	return all(utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))).Read)
}

// all reads documents up to the end.
func all(next func() ([]byte, error)) (documents [][]byte, err error) {
	for {
		document, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, err
		}
		documents = append(documents, document)
	}
}

// object takes one object, or the items of a list.
func (r *reader) object(file string, data []byte) error {
	var head struct {
		metav1.TypeMeta
		Metadata struct{ Namespace, Name string }
		Items    []json.RawMessage
	}
	if string(data) == "null" {
		return nil // only comments
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("decode object: %w", err)
	}
	gv := v1alpha1.GroupVersion.String()
	switch {
	case head.Kind == "" || head.APIVersion == "":
		return errors.New("decode object: apiVersion or kind is missing")
	case head.Kind == "List" && head.APIVersion == "v1" || head.Kind == poolKind+"List" && head.APIVersion == gv:
		for _, item := range head.Items {
			if err := r.object(file, item); err != nil {
				return err
			}
		}
		return nil
	case head.Kind == poolKind && head.APIVersion != gv:
		return fmt.Errorf("decode IPAddressPool %s: its apiVersion is %s, not %s", head.Metadata.Name, head.APIVersion, gv)
	case head.Kind != poolKind && schema.FromAPIVersionAndKind(head.APIVersion, "").Group == v1alpha1.GroupVersion.Group && head.APIVersion != gv:
		return fmt.Errorf("decode %s %s: its apiVersion is %s, not %s", head.Kind, head.Metadata.Name, head.APIVersion, gv)
	case head.Kind != poolKind:
		full := head.Metadata.Name
		if head.Metadata.Namespace != "" {
			full = head.Metadata.Namespace + "/" + full
		}
		r.ignored = append(r.ignored, fmt.Sprintf("%s %s in %s", head.Kind, full, file))
		return nil
	}
	return r.pool(file, data)
}

func (r *reader) pool(file string, data []byte) error {
	var p v1alpha1.IPAddressPool
	if _, _, err := r.decoder.Decode(data, nil, &p); err != nil {
		return fmt.Errorf("decode IPAddressPool: %w", err)
	}
	if p.Name == "" {
		return errors.New("decode IPAddressPool: metadata.name is missing")
	}
	for _, other := range r.pools {
		if other.Name == p.Name {
			return fmt.Errorf("IPAddressPool %s stands in %s already", p.Name, other.file)
		}
	}
	r.pools = append(r.pools, written{p, file})
	return nil
}
