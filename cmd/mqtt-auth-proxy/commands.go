package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config/schema"
)

// complete adds to the commands of root what they have in common: --version, the commands help and
// completion, and errors that say what a mistyped command or flag was most likely meant to be.
func complete(root *cobra.Command) {
	root.Version = version()
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(explainFlag)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = knownTopic
			c.Example = "  mqtt-auth-proxy help token create"
		case "completion":
			c.Example = "  mqtt-auth-proxy completion bash > ~/.local/share/bash-completion/completions/mqtt-auth-proxy"
			for _, shell := range c.Commands() {
				shell.Example = "  mqtt-auth-proxy completion " + shell.Name()
			}
		}
	}
	refuseUnknown(root)
}

// refuseUnknown makes a wrong subcommand an error at every level. Without it cobra prints the help
// with exit status 0 at every level but the first, and a script takes that for success.
func refuseUnknown(c *cobra.Command) {
	for _, sub := range c.Commands() {
		refuseUnknown(sub)
	}
	if !c.HasSubCommands() {
		return
	}
	c.Args = cobra.ArbitraryArgs
	c.DisableFlagsInUseLine = true
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(c, args[0])
		}
		return c.Help()
	}
}

// unknownCommand is the error about a subcommand that c does not have.
func unknownCommand(c *cobra.Command, name string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			names = append(names, sub.Name())
		}
	}
	advice := "it has " + strings.Join(names, ", ")
	if near := schema.Nearest(name, names); near != "" {
		advice = "did you mean " + near + "?"
	}
	return fmt.Errorf("unknown command %q for %q; %s", name, c.CommandPath(), advice)
}

// knownTopic checks the arguments of the help command.
func knownTopic(help *cobra.Command, args []string) error {
	c, rest, err := help.Root().Find(args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0 && c.HasSubCommands():
		return unknownCommand(c, rest[0])
	}
	return nil
}

// explainFlag adds to the error about an unknown flag which one was most likely meant.
func explainFlag(c *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := schema.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	}
	return fmt.Errorf("%w; %s --help shows the flags", err, c.CommandPath())
}
