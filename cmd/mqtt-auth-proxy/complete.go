package main

import (
	"context"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

const (
	// maxCompleted is how many names the completion offers.
	maxCompleted = 100
	// maxCompletedFile is the size in bytes of the largest token file that the completion reads,
	// which takes less than a second.
	maxCompletedFile = 16 << 20
	// completionTime limits a question to a database.
	completionTime = time.Second
)

// completable are the names that a completion may offer. A shell acts on other characters when it
// completes them.
var completable = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@/+-]*$`)

// completeDevices is the completion of arguments that are names of devices.
func (t *tokens) completeDevices(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return t.devicesLike(c.Context(), typed), cobra.ShellCompDirectiveNoFileComp
}

// completeSubject completes the flag --subject of a command.
func (p *program) completeSubject(c *cobra.Command) {
	_ = c.RegisterFlagCompletionFunc("subject", (&tokens{program: p}).completeDevices)
}

// completeSources completes the flag --source with the names of the sources that have tokens.
func (t *tokens) completeSources(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	c, err := t.loadConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	stores, _ := service.TokenStores(c)
	names := make([]string, len(stores))
	for i, s := range stores {
		names[i] = s.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeServers completes the argument that is a broker of the configuration.
func (p *program) completeServers(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	plan, err := p.loadPlan()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer plan.Close()
	return plan.BrokerNames(), cobra.ShellCompDirectiveNoFileComp
}

// devicesLike returns names of devices that begin with typed. Whatever fails there are none: a
// completion has no place for errors.
func (t *tokens) devicesLike(ctx context.Context, typed string) (names []string) {
	if typed != "" && !completable.MatchString(typed) {
		return nil
	}
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	quiet := *t.program
	quiet.stderr = io.Discard
	store, err := (&tokens{program: &quiet, file: t.file, source: t.source}).store()
	if err != nil {
		return nil
	}
	if file, ok := store.(service.TokenFile); ok {
		if info, err := os.Stat(string(file)); err != nil || info.Size() > maxCompletedFile {
			return nil
		}
	}
	seen := map[string]bool{}
	_ = store.Each(ctx, tokenfile.Scope{Pattern: typed + "*"}, func(e tokenfile.Entry, _ []byte) error {
		if completable.MatchString(e.Subject) && strings.HasPrefix(e.Subject, typed) && !seen[e.Subject] {
			seen[e.Subject] = true
			names = append(names, e.Subject)
		}
		if len(names) == maxCompleted {
			return context.Canceled
		}
		return nil
	})
	return names
}

// completeChoices completes a flag that has fixed choices.
func completeChoices(c *cobra.Command, flag string, choices ...string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp))
}
