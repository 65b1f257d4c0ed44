package cloudflare

import "overlord/sandbox/providers/kit"

var rulesetFields = []kit.Field{
	{Name: "name", Type: kit.String, Required: true},
	{Name: "kind", Type: kit.String, Required: true, Replace: true, Validate: kit.OneOf("managed", "custom", "root", "zone")},
	{Name: "phase", Type: kit.String, Required: true, Replace: true},
	{Name: "description", Type: kit.String, Computed: true},
	{Name: "rules", Type: kit.Any, Computed: true, Shaped: true},
	{Name: "version", Type: kit.String, Output: true},
	{Name: "lastUpdated", Type: kit.String, Output: true},
}

// A ruleset lies in a zone or in an account: one collection for each.
var (
	zoneRulesets    = collection{scope: "zoneId", root: "zones", path: "rulesets", fields: rulesetFields}
	accountRulesets = collection{scope: "accountId", root: "accounts", path: "rulesets", fields: rulesetFields}
)

var ruleset = kit.Resource[*client]{
	Token: "cloudflare:index/ruleset:Ruleset",
	Fields: append([]kit.Field{
		{Name: "zoneId", Type: kit.String, Replace: true},
		{Name: "accountId", Type: kit.String, Replace: true},
	}, rulesetFields...),

	Check: func(in kit.Props) []kit.Failure {
		_, zone := in["zoneId"]
		_, account := in["accountId"]
		if zone != account {
			return nil
		}
		return []kit.Failure{{Property: "zoneId", Reason: "exactly one of \"zoneId\" and \"accountId\" must be set"}}
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) { return rulesetsOf(in).resource().Create(c, in) },

	Read: func(c *call, id string, state kit.Props) (kit.Result, error) {
		if len(id) > len("accounts/") && id[:len("accounts/")] == "accounts/" {
			return accountRulesets.resource().Read(c, id, state)
		}
		return rulesetsOf(state).resource().Read(c, id, state)
	},

	Update: func(c *call, id string, state, in kit.Props, changed func(string) bool) (kit.Result, error) {
		return rulesetsOf(in).resource().Update(c, id, state, in, changed)
	},

	Delete: func(c *call, id string, state kit.Props) error {
		return rulesetsOf(state).resource().Delete(c, id, state)
	},
}

func rulesetsOf(in kit.Props) collection {
	if in.Has("accountId") {
		return accountRulesets
	}
	return zoneRulesets
}
