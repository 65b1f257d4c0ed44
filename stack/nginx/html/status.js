// Asks the three health addresses and says what they answer, every ten seconds.
const QUESTIONS = {
  health: { path: "/health", good: "healthy", bad: "not healthy" },
  leader: { path: "/leader", good: "yes", bad: "no, it is on standby" },
  api: { path: "/api/health", good: "answers", bad: "does not answer" },
};

async function ask(id, { path, good, bad }) {
  const place = document.getElementById(id);
  let answer;
  try {
    answer = (await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(5000) })).ok;
  } catch {
    answer = false;
  }
  place.textContent = answer ? good : bad;
  place.className = answer ? "good" : "bad";
}

function askAll() {
  for (const [id, question] of Object.entries(QUESTIONS)) ask(id, question);
}

askAll();
setInterval(askAll, 10000);
