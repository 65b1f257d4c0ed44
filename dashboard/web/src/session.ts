/** The operator's token. It lives in this tab alone and is gone when the tab is closed. */

import { ref } from "vue";

const KEY = "overlord.token";

export const token = ref<string | null>(read());
/** Why the sign-in page is shown, when it was not the operator's wish. */
export const signInReason = ref("");

export function signIn(value: string): void {
  token.value = value;
  signInReason.value = "";
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // Storage is refused: signed in until the page is loaded again.
  }
}

export function signOut(reason = ""): void {
  token.value = null;
  signInReason.value = reason;
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was stored.
  }
}

function read(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
