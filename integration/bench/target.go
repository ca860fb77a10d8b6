//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"text/template"
)

//go:embed haproxy.cfg nginx.conf mqtt-auth-proxy.yaml
var configs embed.FS

// target is a program that is compared.
type target struct {
	name, title string
	program     string // to be found, empty for the tool itself
	config      string // template for its config file
	arguments   func(settings) []string
	version     []string // arguments that make it print its version
	splice      bool
	bundled     bool // no sink: the proxy's own broker answers
	mapped      bool // topics are mapped, so that every packet is read
	limits      bool // it can hold devices to a rate
	// files is the number of files of an idle session, if not two.
	files func(transport string) int
	// collect says how to run its garbage collector; nil if it has none.
	collect func(settings) collect
	// only restricts the work on which it is measured.
	only func(work, transport string) bool
}

// settings are the values for the templates of the config files.
type settings struct {
	Dir, Config       string // of this target
	Plain, TLS, Admin string // addresses
	Broker            string // the sink's
	Threads           int
	Splice            bool
	Bundled, Mapped   bool
	Module            string // nginx's stream module, unless it is built in
}

// targets returns all that can be compared, in the order of the table.
func targets() []target {
	return []target{
		{
			name: "proxy", title: "mqtt-auth-proxy", config: "mqtt-auth-proxy.yaml", version: []string{"version"},
			arguments: func(s settings) []string { return []string{"serve", "--config", s.Config} },
			collect:   settings.profile, limits: true,
		},
		{
			name: "proxy-bundled", title: "mqtt-auth-proxy, bundled broker", config: "mqtt-auth-proxy.yaml", version: []string{"version"}, bundled: true,
			arguments: func(s settings) []string { return []string{"serve", "--config", s.Config} },
			only:      func(work, _ string) bool { return work == "quiet" },
		},
		{
			name: "proxy-mapped", title: "mqtt-auth-proxy, mapped topics", config: "mqtt-auth-proxy.yaml", version: []string{"version"}, mapped: true,
			arguments: func(s settings) []string { return []string{"serve", "--config", s.Config} },
			only: func(work, _ string) bool {
				return slices.Contains([]string{"idle", "paced", "flat", "bulk"}, work)
			},
		},
		{
			name: "haproxy", title: "HAProxy", program: "haproxy", config: "haproxy.cfg", version: []string{"-v"},
			arguments: func(s settings) []string { return []string{"-db", "-f", s.Config} },
		},
		{
			name: "haproxy-splice", title: "HAProxy, splicing", program: "haproxy", config: "haproxy.cfg", version: []string{"-v"}, splice: true,
			arguments: func(s settings) []string { return []string{"-db", "-f", s.Config} },
			only:      func(work, transport string) bool { return work == "bulk" && transport == "plain" },
		},
		{
			name: "nginx", title: "nginx", program: "nginx", config: "nginx.conf", version: []string{"-v"},
			arguments: func(s settings) []string { return []string{"-e", "stderr", "-p", s.Dir, "-c", s.Config} },
		},
		{
			name: "relay", title: "bare Go relay",
			arguments: func(s settings) []string { return []string{"relay", s.Plain, s.TLS, s.Dir, s.Broker} },
			files: func(transport string) int {
				if transport == "plain" {
					return 6 // two pipes and the sockets
				}
				return 2
			},
			collect: func(settings) collect { return collect{} },
		},
	}
}

func targetNames() []string {
	var names []string
	for _, t := range targets() {
		names = append(names, t.name)
	}
	return names
}

// does reports whether the target can do this work.
func (t target) does(work, transport string) bool {
	return (t.only == nil || t.only(work, transport)) && (t.collect != nil || work != "gc") && (t.limits || work != "held")
}

// holds reports whether the target can have so many sessions with a limit of 20,000 files.
func (t target) holds(sessions int, transport string) bool {
	return t.files == nil || sessions*t.files(transport) < 20_000
}

// locate finds the program and its version.
func (t *target) locate(o options) (version string, err error) {
	switch t.name {
	case "proxy", "proxy-bundled", "proxy-mapped":
		t.program, err = filepath.Abs(o.binary)
	case "relay":
		t.program, err = os.Executable()
		return runtime.Version(), err
	default:
		t.program, err = find(t.program)
	}
	if err != nil {
		return "", err
	}
	out, err := exec.Command(t.program, t.version...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w", t.program, t.version, err)
	}
	// "mqtt-auth-proxy v1.2.3 ...", "HAProxy version 2.6.12 ...", "nginx version: nginx/1.22.1"
	m := regexp.MustCompile(`^(?:\S+ )(?:version:? )?(?:nginx/)?([^\s,]+)`).FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s %v says %q", t.program, t.version, out)
	}
	if t.config != "mqtt-auth-proxy.yaml" {
		return string(m[1]), nil
	}
	// Builds of the same version get different names, because the tool compares them.
	file, err := os.ReadFile(t.program)
	return fmt.Sprintf("%s (build %.4x)", m[1], sha256.Sum256(file)), err
}

// start runs the target in front of a broker, with its files in dir.
func (t target) start(ctx context.Context, s settings) (*process, error) {
	if t.config != "" {
		s.Config = filepath.Join(s.Dir, t.config)
		if err := s.write(t.config); err != nil {
			return nil, err
		}
	}
	p, err := start(ctx, nil, append([]string{t.program}, t.arguments(s)...)...)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(p.serves(ctx, s.Plain), p.serves(ctx, s.TLS)); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (s settings) write(name string) error {
	t, err := template.ParseFS(configs, name)
	if err != nil {
		return err
	}
	const module = "/usr/lib/nginx/modules/ngx_stream_module.so" // where Debian has it
	if _, err := os.Stat(module); err == nil {
		s.Module = module
	}
	f, err := os.Create(s.Config)
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(f, s), f.Close())
}
