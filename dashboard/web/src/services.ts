/** The parts that the pages share. One page, one of each. */

import { Api } from "./api";
import { FleetStore } from "./fleet/store";
import { ApiClient } from "./http";
import { Feed } from "./live/feed";
import { signOut, token } from "./session";

export const api = new Api(
  new ApiClient(
    () => token.value,
    (error) => signOut(`You were signed out: ${error.message}`),
  ),
);
export const fleet = new FleetStore();
export const feed = new Feed(api, fleet);
