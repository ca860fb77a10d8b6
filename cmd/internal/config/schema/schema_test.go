package schema

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A settings is the configuration of a program that has nothing to do with this one. Its
// data directory is the last key.
type settings struct {
	Log    string        `yaml:"log" type:"data path" default:"app.log" doc:"log file"`
	Cache  string        `yaml:"cache" type:"path" doc:"directory of the cache"`
	Limit  int           `yaml:"limit" default:"0" min:"0" max:"9" zero:"none" doc:"0 = none"`
	Pool   int           `yaml:"pool" default:"0" min:"0" zero:"default" doc:"0 = as many as processors"`
	Wait   time.Duration `yaml:"wait" default:"5s" min:"0s" zero:"none" doc:"0s = not at all"`
	Room   int64         `yaml:"room" type:"size" default:"1KiB" min:"0" zero:"none" doc:"0 = all"`
	Colour colour        `yaml:"colour" type:"colour" default:"red" doc:"of the lamp"`
	Doors  []door        `yaml:"doors" doc:"in the house"`
	Lamps  []lamp        `yaml:"lamps" short:"place" doc:"in the house"`
	Names  []string      `yaml:"names" single:"true" min:"1" default:"[a]" doc:"of the house"`
	Data   string        `yaml:"data" type:"data directory" default:"here" doc:"data directory"`
}

type door struct {
	Code  Secret `yaml:"code" doc:"code of the door"`
	Width int    `yaml:"width" required:"true" doc:"of the door"`
}

type lamp struct {
	Place  string `yaml:"place" required:"true" doc:"of the lamp"`
	Colour colour `yaml:"colour" type:"colour" default:"red" doc:"of the lamp"`
}

type colour struct{ red, green int }

func (c colour) String() string {
	if c.red > 0 {
		return "red"
	}
	return "green"
}

func colours() map[string]Type {
	return map[string]Type{"colour": func(text string) (any, error) {
		switch text {
		case "red":
			return colour{red: 255}, nil
		case "green":
			return colour{green: 255}, nil
		}
		return nil, errors.New("is not a colour; write red or green")
	}}
}

// options say that text is the config file.
func options(t *testing.T, text string) Options[settings] {
	t.Helper()
	o := Options[settings]{Prefix: "APP_", Types: colours(), Example: "log: x", WorkDir: t.TempDir(), Path: "app.yaml"}
	if err := os.WriteFile(filepath.Join(o.WorkDir, o.Path), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

func load(t *testing.T, o Options[settings]) (*settings, *Origins) {
	t.Helper()
	v, origins, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return v, origins
}

// Data paths start at the data directory wherever its key stands.
func TestPathsStartAtTheDirectoryOfTheirType(t *testing.T) {
	o := options(t, "cache: c\n")
	o.Environ = []string{"APP_DATA=d"}
	v, origins := load(t, o)
	if want := filepath.Join(o.WorkDir, "d", "app.log"); v.Log != want {
		t.Errorf("log is %s, want %s", v.Log, want)
	}
	want := map[string]string{"log": v.Log, "cache": filepath.Join(o.WorkDir, "c"), "data": filepath.Join(o.WorkDir, "d")}
	if diff := cmp.Diff(want, origins.Paths()); diff != "" {
		t.Error(diff)
	}
}

func TestZeroFollowsTheTag(t *testing.T) {
	v, origins := load(t, options(t, "limit: 0\npool: 0\nwait: 0s\nroom: 0\n"))
	if v.Limit != None || v.Wait != None || v.Room != None || v.Pool != 0 {
		t.Errorf("%+v; want %d for none and 0 for the default", v, None)
	}
	text, err := origins.Render(v)
	if err != nil || !strings.Contains(string(text), "limit: 0 # app.yaml:1\npool: 0 # app.yaml:2\nwait: 0s # app.yaml:3\nroom: '0' # app.yaml:4\n") {
		t.Errorf("Render = %s, %v; want the zeros as they were written", text, err)
	}
	if v, _ := load(t, options(t, "limit: 1")); v.Limit != 1 || v.Wait != 5*time.Second {
		t.Errorf("%+v", v)
	}
	if _, _, err := Load(options(t, "limit: -1")); err == nil {
		t.Error("the value that means none can be written in a file")
	}
}

func TestOwnTypes(t *testing.T) {
	v, origins := load(t, options(t, "colour: green"))
	if v.Colour != (colour{green: 255}) {
		t.Errorf("colour %+v", v.Colour)
	}
	if text, err := origins.Render(v); err != nil || !strings.Contains(string(text), "colour: green # app.yaml:1\n") {
		t.Errorf("Render = %s, %v", text, err)
	}
	_, _, err := Load(options(t, "colour: blue"))
	if want := "app.yaml:1: colour: is not a colour; write red or green"; err == nil || err.Error() != want {
		t.Errorf("fault %v, want %s", err, want)
	}
	o := options(t, "")
	o.Types = nil
	_, _, err = Load(o)
	if want := `app.yaml: colour: has the type "colour", which this program does not know`; err == nil || err.Error() != want {
		t.Errorf("fault %v, want %s", err, want)
	}
}

func TestChecksLeaveFaultsAlone(t *testing.T) {
	o := options(t, "limit: 10\ndoors:\n- {width: 1}\n- {widht: 2}\nnames: x\n")
	o.Check = func(v *settings, r *Report) {
		if v.Limit != None {
			t.Errorf("limit %d; a key at fault holds its default", v.Limit)
		}
		for key, want := range map[string][3]bool{
			"limit": {true, true, false}, "doors": {false, true, false}, "doors[0]": {false, false, false},
			"doors[1].code": {false, false, false}, "doors[1]": {false, true, true},
		} {
			if got := [3]bool{r.Faulty(key), r.FaultyWithin(key), r.Misspelled(key)}; got != want {
				t.Errorf("%s: faulty, within and misspelled are %v, want %v", key, got, want)
			}
		}
		r.Fault("limit", "is reported already")
		r.Fault("names", "is a bad name")
		r.Fault("doors[0].code", "is missing")
	}
	_, _, err := Load(o)
	want := `app.yaml:1: limit: "10" is out of range; allowed is 0 to 9
app.yaml:3: doors[0].code: is missing
app.yaml:4: doors[1].widht: is an unknown key; did you mean width?
app.yaml:5: names: is a bad name`
	if err == nil || err.Error() != want {
		t.Errorf("faults:\n%v\nwant:\n%s", err, want)
	}
}

func TestVariablesFindTheirKeys(t *testing.T) {
	for name, want := range map[string]string{
		"LIMIT": "limit", "DOORS_0_WIDTH": "doors[0].width", "DOORS_12_CODE_FILE": "doors[12].code_file",
		"NAMES": "names", "NAMES_3": "names[3]", "DOORS_X_WIDTH": "", "DOORS_00_WIDTH": "", "LIMITS": "", "": "",
	} {
		steps, ok := resolve(reflect.TypeFor[settings](), name)
		path := ""
		for _, s := range steps {
			if path = join(path, s.field.key); s.position >= 0 {
				path = Element(path, s.position)
			}
		}
		if path != want || ok != (want != "") {
			t.Errorf("%s resolves to %q, want %q", name, path, want)
		}
	}
}

func TestKeysDescribeTheStruct(t *testing.T) {
	var got []string
	for _, k := range Keys[settings]("APP_") {
		got = append(got, strings.Join([]string{k.Path, k.Environment, k.Type, k.Default, k.Allowed, k.Zero}, "|"))
	}
	want := []string{
		"log|APP_LOG|data path|app.log||",
		"cache|APP_CACHE|path|||",
		"limit|APP_LIMIT|integer|0|0 to 9|none",
		"pool|APP_POOL|integer|0|at least 0|default",
		"wait|APP_WAIT|duration|5s|at least 0s|none",
		"room|APP_ROOM|size|1KiB|at least 0|none",
		"colour|APP_COLOUR|colour|red||",
		"doors|APP_DOORS|list of section|||",
		"doors[].code|APP_DOORS_N_CODE|secret|||",
		"doors[].code_file|APP_DOORS_N_CODE_FILE|path|||",
		"doors[].width|APP_DOORS_N_WIDTH|integer|||",
		"lamps|APP_LAMPS|list of string or section|||",
		"lamps[].place|APP_LAMPS_N_PLACE|string|||",
		"lamps[].colour|APP_LAMPS_N_COLOUR|colour|red||",
		"names|APP_NAMES|string or list of string|[a]||",
		"data|APP_DATA|data directory|here||",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestElementsCanBeShort: an element of a list of sections may be written as one value, if the tag
// short says of which key, in a file and in the environment.
func TestElementsCanBeShort(t *testing.T) {
	green := colour{green: 255}
	for _, tc := range []struct {
		name, text string
		environ    []string
		want       []lamp
		rendered   string
	}{
		{"short", "lamps: [hall, attic]", nil, []lamp{{"hall", colour{red: 255}}, {"attic", colour{red: 255}}}, "lamps: [hall, attic] # app.yaml:1\n"},
		{
			"mixed", "lamps:\n- hall\n- {place: attic, colour: green}", nil, []lamp{{"hall", colour{red: 255}}, {"attic", green}},
			"lamps:\n- place: hall # app.yaml:2\n  colour: red # default\n- place: attic # app.yaml:3\n  colour: green # app.yaml:3\n",
		},
		{"in the environment", "lamps: [x]", []string{"APP_LAMPS=hall, attic"}, []lamp{{"hall", colour{red: 255}}, {"attic", colour{red: 255}}}, "lamps: [hall, attic] # environment\n"},
		{
			"one key in the environment", "lamps: [hall]", []string{"APP_LAMPS_0_COLOUR=green", "APP_LAMPS_1=attic"},
			[]lamp{{"hall", green}, {"attic", colour{red: 255}}},
			"lamps:\n- place: hall # app.yaml:1\n  colour: green # environment\n- place: attic # environment\n  colour: red # default\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := options(t, tc.text)
			o.Environ = tc.environ
			v, origins := load(t, o)
			if diff := cmp.Diff(tc.want, v.Lamps, cmp.AllowUnexported(colour{})); diff != "" {
				t.Error(diff)
			}
			if text, err := origins.Render(v); err != nil || !strings.Contains(string(text), tc.rendered) {
				t.Errorf("Render = %s, %v; want %s", text, err, tc.rendered)
			}
		})
	}
}

// TestFaultOfAShortElement names no key that the file does not have.
func TestFaultOfAShortElement(t *testing.T) {
	for text, want := range map[string]string{
		"lamps: [hall, hall]":                   "app.yaml:1: lamps[1]: is in the list twice; remove one",
		"lamps: ['']":                           "app.yaml:1: lamps[0]: is empty",
		"lamps: [[x]]":                          "app.yaml:1: lamps[0]: is a list and must be a plain value or a section; put text",
		"lamps:\n- {place: hall, colour: blue}": "app.yaml:2: lamps[0].colour: is not a colour",
		"lamps:\n- {colour: green}":             "app.yaml:2: lamps[0].place: is missing",
		"doors: [1]":                            "app.yaml:1: doors[0]: is a plain value and must be a section",
	} {
		_, _, err := Load(options(t, text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: fault %v, want %s", text, err, want)
		}
	}
}
