package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// TokenStore is a token source whose tokens can be changed.
type TokenStore interface {
	// Update makes one edit, which takes effect as a whole or not at all. It may look up only
	// what is in the scope. If create is true, a file that is missing is created.
	Update(ctx context.Context, create bool, s tokenfile.Scope, change func(*tokenfile.Edit) error) error
	// Page returns a page of the entries that the query selects.
	Page(ctx context.Context, q tokenfile.Query) (tokenfile.Page, error)
}

// NamedStore is the TokenStore of a source, with the name of the source in status and metrics.
type NamedStore struct {
	Name string
	TokenStore
}

// Token is a token in an answer of the API. It holds no secret.
type Token struct {
	ID          string     `json:"id"`
	Subject     string     `json:"subject"`
	Fingerprint string     `json:"fingerprint"`
	Username    string     `json:"username,omitempty"` // of a device that has a password instead
	State       string     `json:"state"`              // one of tokenfile.States
	Expires     *time.Time `json:"expire_at,omitempty"`
	NotBefore   *time.Time `json:"not_before,omitempty"`
	Created     *time.Time `json:"created_at,omitempty"`
	LastSeen    *time.Time `json:"last_seen,omitempty"`
	ClientIDs   []string   `json:"clientid,omitempty"`
	Role        authz.Role `json:"role,omitempty"`
	Gateway     bool       `json:"gateway,omitempty"`
	Comment     string     `json:"comment,omitempty"`
}

// TokenList is the answer to GET /v1/tokens.
type TokenList struct {
	// Source is the source of the tokens, and Sources are all that can be named.
	Source  string   `json:"source"`
	Sources []string `json:"sources"`
	// Tokens are the tokens that match, in the order in which they were added. The first ones are
	// left out, and there are at most as many as the limit of the query. Total is how many match.
	Tokens []Token `json:"tokens"`
	Total  int     `json:"total"`
	// Faults name those of the list that cannot be shown, because their rows in the database break
	// the rules. They count for Total and for the limit.
	Faults []string `json:"faults,omitempty"`
}

// TokenQuery selects tokens. An empty field selects all tokens, and an empty Source the first
// source.
type TokenQuery struct {
	Source string
	// ID selects one token, and Subject those of one device.
	ID, Subject string
	// Match is a pattern for ids and subjects, in which * stands for any text and ? for one
	// character.
	Match string
	State string
	// First is how many of the tokens that match are left out, and Limit how many are listed at
	// most; it must be set.
	First, Limit int
}

// The errors of the functions for tokens that are not those of package tokenfile.
var (
	// ErrNoStore means that there is no source with that name whose tokens can be changed.
	ErrNoStore = errors.New("no token source with this name can be changed")
	// ErrTooMany means that too many requests read tokens.
	ErrTooMany = errors.New("too many requests read tokens: try again later")
)

// longestTokenList is how long a request to read tokens waits for others. Only one reads at a time.
const longestTokenList = 10 * time.Second

// store returns a source by its name, or the first one, and the names of all.
func (a *API) store(name string) (found NamedStore, names []string, err error) {
	if a.Tokens == nil {
		return found, nil, ErrNoStore
	}
	all, err := a.Tokens()
	if err != nil {
		return found, nil, err
	}
	ok := false
	for _, s := range all {
		if names = append(names, s.Name); !ok && (name == "" || name == s.Name) {
			found, ok = s, true
		}
	}
	if !ok {
		return found, names, ErrNoStore
	}
	return found, names, nil
}

// TokenSources returns the names of the sources whose tokens can be changed.
func (a *API) TokenSources() ([]string, error) {
	_, names, err := a.store("")
	if errors.Is(err, ErrNoStore) {
		err = nil
	}
	return names, err
}

// ListTokens does what GET /v1/tokens does.
func (a *API) ListTokens(ctx context.Context, q TokenQuery) (TokenList, error) {
	s, names, err := a.store(q.Source)
	if err != nil {
		return TokenList{Sources: names}, err
	}
	list := TokenList{Source: s.Name, Sources: names, Tokens: []Token{}}
	ctx, cancel := context.WithTimeout(ctx, longestTokenList)
	defer cancel()
	select {
	case a.turn() <- struct{}{}:
		defer func() { <-a.turn() }()
	case <-ctx.Done():
		return list, ErrTooMany
	}
	now := time.Now()
	page, err := s.Page(ctx, tokenfile.Query{
		ID: q.ID, Subject: q.Subject, Pattern: q.Match, State: q.State, Now: now, First: q.First, Limit: q.Limit,
	})
	if err != nil {
		return list, err
	}
	for _, e := range page.Entries {
		list.Tokens = append(list.Tokens, tokenOf(e, now))
	}
	list.Total, list.Faults = page.Total, page.Faults
	a.addLastSeen(ctx, list.Tokens)
	return list, nil
}

// turn has one element while a request reads tokens. Reading a large file takes a whole processor.
func (a *API) turn() chan struct{} {
	a.once.Do(func() { a.reading = make(chan struct{}, 1) })
	return a.reading
}

// addLastSeen adds when the tokens were last used, as far as that is known.
func (a *API) addLastSeen(ctx context.Context, tokens []Token) {
	if a.TokensSeen == nil || len(tokens) == 0 {
		return
	}
	ids := make([]string, len(tokens))
	for i, t := range tokens {
		ids[i] = t.ID
	}
	seen, err := a.TokensSeen(ctx, ids)
	if err != nil {
		return // the status says so
	}
	for i, t := range tokens {
		tokens[i].LastSeen = timeOrNone(seen[t.ID])
	}
}

// tokenOf returns what an answer says of an entry.
func tokenOf(e tokenfile.Entry, now time.Time) Token {
	t := Token{
		ID: e.ID, Subject: e.Subject, Fingerprint: e.Fingerprint, State: e.State(now), Expires: timeOrNone(e.Expires),
		NotBefore: timeOrNone(e.Only.NotBefore), Created: timeOrNone(e.Created), ClientIDs: e.Only.ClientIDs, Role: e.Role, Gateway: e.Gateway, Comment: e.Comment,
	}
	if e.Password && len(e.Only.Usernames) == 1 {
		t.Username = e.Only.Usernames[0]
	}
	return t
}

// timeOrNone returns t in UTC, or nil for the zero time.
func timeOrNone(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// CreateToken makes a token for a device, in the source with that name or in the first one.
func (a *API) CreateToken(ctx context.Context, source string, o tokenfile.CreateOptions) (made tokenfile.Created, err error) {
	scope := tokenfile.Scope{Names: []string{o.Name}}
	if !o.Token.IsZero() {
		scope.Tokens = append(scope.Tokens, o.Token.Hash())
	}
	err = a.edit(ctx, source, scope, func(e *tokenfile.Edit) error {
		made, err = e.Create(o)
		return err
	})
	a.recordToken(ctx, "create token", o.Name, made.ID, err)
	return made, err
}

// RotateToken makes a new token for a device that has one. The old ones stay valid for overlap.
func (a *API) RotateToken(ctx context.Context, source, subject string, overlap time.Duration) (made tokenfile.Created, err error) {
	err = a.edit(ctx, source, tokenfile.Scope{Names: []string{subject}}, func(e *tokenfile.Edit) error {
		made, err = e.Rotate(subject, overlap)
		return err
	})
	a.recordToken(ctx, "rotate token", subject, made.ID, err)
	return made, err
}

// TokenChange is a change of tokens that makes no new one.
type TokenChange string

// The changes.
const (
	DisableToken TokenChange = "disable"
	EnableToken  TokenChange = "enable"
	RevokeToken  TokenChange = "revoke"
	ExtendToken  TokenChange = "extend"
)

// ChangeTokens changes the tokens with these ids, and all tokens of the devices with these names.
// expires is for ExtendToken; zero means never. It returns the ids.
func (a *API) ChangeTokens(ctx context.Context, source string, c TokenChange, expires time.Time, names ...string) (ids []string, err error) {
	return a.changeAll(ctx, source, c, expires, names, func(*tokenfile.Edit) {})
}

// ChangeToken changes the token with the id, and no other of a device that is called so.
func (a *API) ChangeToken(ctx context.Context, source string, c TokenChange, expires time.Time, id string) error {
	_, err := a.changeAll(ctx, source, c, expires, []string{id}, (*tokenfile.Edit).ByID)
	return err
}

func (a *API) changeAll(ctx context.Context, source string, c TokenChange, expires time.Time, names []string, prepare func(*tokenfile.Edit)) (ids []string, err error) {
	err = a.edit(ctx, source, tokenfile.Scope{Names: names}, func(e *tokenfile.Edit) (err error) {
		prepare(e)
		switch c {
		case DisableToken:
			ids, err = e.Disable(names...)
		case EnableToken:
			ids, err = e.Enable(names...)
		case RevokeToken:
			ids, err = e.Revoke(names...)
		case ExtendToken:
			ids, err = e.Extend(expires, names...)
		default:
			err = fmt.Errorf("the change is %s, %s, %s or %s", DisableToken, EnableToken, RevokeToken, ExtendToken)
		}
		return err
	})
	for _, name := range names {
		a.recordToken(ctx, string(c)+" token", name, fmt.Sprint(len(ids))+" changed", err)
	}
	return ids, err
}

// edit makes one edit of a source, which is in force within a second.
func (a *API) edit(ctx context.Context, source string, scope tokenfile.Scope, change func(*tokenfile.Edit) error) error {
	s, _, err := a.store(source)
	if err != nil {
		return err
	}
	return s.Update(ctx, true, scope, change)
}

// recordToken records a change of tokens.
func (a *API) recordToken(ctx context.Context, action, object, outcome string, err error) {
	if err != nil {
		outcome = "failed: " + err.Error()
	}
	a.Audit.Record(ctx, action, object, outcome)
}
