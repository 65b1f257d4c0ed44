package tailscale

import (
	"encoding/json"
	"reflect"

	"github.com/tailscale/hujson"
	"tailscale.com/client/tailscale/v2"

	"overlord/sandbox/providers/kit"
)

// untouched is the ETag of the policy that a new tailnet starts with.
const untouched = "ts-default"

// policyID is the id of a tailnet's only policy, for an import too.
const policyID = "acl"

var acl = kit.Resource[*tailscale.Client]{
	Token: "tailscale:index/acl:Acl",
	Fields: []kit.Field{
		{Name: "acl", Type: kit.String, Required: true, Validate: validatePolicy, Same: samePolicy},
		{Name: "overwriteExistingContent", Type: kit.Bool},
		{Name: "resetAclOnDestroy", Type: kit.Bool},
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) {
		etag := untouched
		if in.Bool("overwriteExistingContent") {
			etag = ""
		}
		if err := c.Client.PolicyFile().Set(c, in.String("acl"), etag); err != nil {
			return kit.Result{}, err
		}
		return kit.Result{ID: policyID, Live: kit.Props{}}, nil
	},

	Read: func(c *call, _ string, _ kit.Props) (kit.Result, error) {
		found, err := c.Client.PolicyFile().Raw(c)
		if err != nil {
			return kit.Result{}, err
		}
		return kit.Result{ID: policyID, Live: kit.Props{"acl": found.HuJSON}}, nil
	},

	Update: func(c *call, _ string, _, in kit.Props, changed func(string) bool) (kit.Result, error) {
		if !changed("acl") {
			return kit.Result{Live: kit.Props{}}, nil
		}
		return kit.Result{Live: kit.Props{}}, c.Client.PolicyFile().Set(c, in.String("acl"), "")
	},

	Delete: func(c *call, _ string, state kit.Props) error {
		if !state.Bool("resetAclOnDestroy") {
			return nil
		}
		// An empty policy makes the API go back to the one of a new tailnet.
		return c.Client.PolicyFile().Set(c, "", "")
	},
}

func validatePolicy(in any) string {
	text, _ := in.(string)
	if _, err := parsePolicy(text); err != nil {
		return "the policy is not valid HuJSON: " + err.Error()
	}
	return ""
}

// samePolicy compares what two policies say: comments and layout do not count, and an API may
// give a policy back without them.
func samePolicy(old, wanted any) bool {
	a, _ := old.(string)
	b, _ := wanted.(string)
	policyA, errA := parsePolicy(a)
	policyB, errB := parsePolicy(b)
	return errA == nil && errB == nil && reflect.DeepEqual(policyA, policyB)
}

func parsePolicy(text string) (any, error) {
	standard, err := hujson.Standardize([]byte(text))
	if err != nil {
		return nil, err
	}
	var out any
	err = json.Unmarshal(standard, &out)
	return out, err
}
