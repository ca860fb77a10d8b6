package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// program is the environment of a command: the streams and environment variables of the
// process.
type program struct {
	stdout, stderr io.Writer
	environ        []string
	detached       []*observe.Output // behind stdout and stderr after detach

	configFile, dataDir string // flags
}

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mqtt-auth-proxy",
		Short: "Checks the access tokens of MQTT devices in front of a broker",
		Long: `An authentication proxy in front of an MQTT broker. Devices connect with an access
token, over plain MQTT or MQTTS. The proxy checks the token, replaces the credentials,
connects to the broker and then forwards the bytes in both directions.

Without any configuration it runs with a bundled broker that stores telemetry.`,
		Example: `  mqtt-auth-proxy serve
  mqtt-auth-proxy serve --config proxy.yaml
  mqtt-auth-proxy token create pump-7`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.AddCommand(p.serveCommand(), p.checkCommand(), p.tokenCommand(), p.storeCommand(), p.sessionsCommand(), p.devicesCommand(), p.brokersCommand(), p.refusalsCommand(), p.topicCommand(), p.versionCommand())
	complete(root)
	return root
}

// configFlags adds the flags that name the configuration.
func (p *program) configFlags(c *cobra.Command) {
	c.Flags().StringVar(&p.configFile, "config", "", "config `FILE` (YAML); without it the defaults and the environment apply")
	c.Flags().StringVar(&p.dataDir, "data", "", "data `DIR`, instead of the config's (default ./mqtt-auth-proxy-data)")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	_ = c.MarkFlagDirname("data")
}

// one makes a command require exactly one argument, which its errors call what.
func one(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("give exactly one %s, not %d: %s", what, len(args), c.UseLine())
		}
		return nil
	}
}

// loadPlan reads the config file and the environment. Its error lists every fault.
func (p *program) loadPlan() (*service.Plan, error) {
	return service.Load(p.configOptions(), version())
}

// loadConfig is loadPlan for commands that start nothing.
func (p *program) loadConfig() (*config.Config, error) {
	plan, err := p.loadPlan()
	if err != nil {
		return nil, err
	}
	plan.Close()
	return plan.Config, nil
}

func (p *program) configOptions() config.Options {
	return config.Options{Path: p.configFile, Environ: p.environ, DataDir: p.dataDir}
}

// errorText returns err as the user sees it. An error about the configuration has a line for
// each fault and needs no prefix. An error may contain names from a file, the environment or
// a device, so characters on which a terminal would act are replaced.
func errorText(err error) string {
	var faults *config.Error
	text := "mqtt-auth-proxy: " + strings.TrimSpace(err.Error())
	if errors.As(err, &faults) {
		text = faults.Error()
	}
	if advice := fileAdvice(err); advice != "" {
		text += "\n" + advice
	}
	return harmless(text)
}

// fileAdvice says what to do about an error of the file system that has nothing to do with the
// content of a file. It is empty for every other error.
func fileAdvice(err error) string {
	_, ofFile := errors.AsType[*fs.PathError](err)
	switch {
	case ofFile && errors.Is(err, fs.ErrPermission):
		return "Run the command as the user that the file belongs to; of the service that is sudo -u mqtt-auth-proxy."
	case errors.Is(err, syscall.EROFS):
		return "The file system is mounted read-only, or the service manager makes it so: name another directory with --data."
	case errors.Is(err, syscall.ENOSPC):
		return "Make room on the file system."
	}
	return ""
}

// harmless replaces characters on which a terminal would act.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
