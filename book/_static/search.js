/* Search over searchEntries (book/_ext/search_entries.py): no server, no network, no index of pages. */
(() => {
  const SHOWN = 40;
  const RANK = { page: 6, term: 5, section: 1, method: 1 }; // a theorem or a function: 4
  const plain = (text) =>
    text
      .normalize("NFD")
      .replace(/\p{M}|['’]/gu, "")
      .toLowerCase()
      .replace(/[^\p{L}\p{N}]+/gu, " ")
      .trim();
  const humps = (text) => text.replace(/(\p{Ll})(\p{Lu})/gu, "$1 $2"); // CovariantVectors, by its words
  const STEM = [/(?<=...)(ies|y)$/, /(?<=....)(es|s|ed|ing)$/];
  const stem = (word) => STEM.reduce((w, ending) => w.replace(ending, ""), word);

  const numbered = (kind) => (/\d/.test(kind) ? kind : ""); // Theorem 2.1
  const all = searchEntries.flatMap(([url, entries]) =>
    entries.map((e) => ({
      ...e,
      url: url + e.anchor,
      names: [e.title, humps(e.title), `${e.kind} ${e.title}`, `${e.where}.${e.title}`, numbered(e.kind)].map(plain),
      words: ` ${plain(`${e.kind} ${e.title} ${humps(e.title)} ${e.where} ${e.text}`)}`,
    })),
  );

  /* Every word must occur; a name that is the query comes first, then names that contain it, then text. */
  const score = (e, query, stems) => {
    if (!stems.every((s) => e.words.includes(` ${s}`))) return 0;
    const rank = (RANK[e.kind] ?? 4);
    if (e.names.includes(query)) return 100 + rank;
    const title = ` ${e.names[0]} ${e.names[1]}`;
    const inTitle = stems.filter((s) => title.includes(` ${s}`)).length / stems.length;
    const share = Math.min(1, query.length / e.names[0].length);
    const phrase = e.words.includes(` ${query}`) ? 8 : 0;
    const found = 1 + rank + phrase + 30 * inTitle + (inTitle === 1 ? 20 + 20 * share : 0);
    return e.title.endsWith("Error") ? found / 2 : found; // "Kalman" is not asked for KalmanError
  };

  const find = (text) => {
    const query = plain(text);
    const stems = query.split(" ").filter(Boolean).map(stem);
    if (!stems.length) return [];
    return all
      .map((e) => ({ ...e, score: score(e, query, stems) }))
      .filter((e) => e.score)
      .sort((a, b) => b.score - a.score);
  };

  const node = (tag, text = "", name = "") =>
    Object.assign(document.createElement(tag), { textContent: text, className: name });

  /* Some 200 characters around the first hit, whole words, hits marked. */
  const summary = (text, stems) => {
    const hit = new RegExp(`(?<![\\p{L}\\p{N}])(?:${stems.join("|")})[\\p{L}\\p{N}]*`, "giu");
    const first = Math.max(text.search(hit), 0);
    const start = first < 80 ? 0 : text.indexOf(" ", first - 60) + 1;
    let end = start + 200 < text.length ? text.lastIndexOf(" ", start + 200) : text.length;
    if (end <= start) end = text.length;
    const piece = (start ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
    const p = node("p", "", "search-summary");
    let at = 0;
    for (const m of piece.matchAll(hit)) {
      p.append(piece.slice(at, m.index), node("mark", m[0]));
      at = m.index + m[0].length;
    }
    p.append(piece.slice(at));
    return p;
  };

  const say = (count, ...results) => {
    document.getElementById("search-count").textContent = count;
    document.getElementById("search-results").replaceChildren(...results);
  };

  const show = (text) => {
    const found = find(text);
    const words = plain(text).split(" ").filter(Boolean);
    const long = words.filter((word) => word.length > 3);
    const stems = (long.length ? long : words).map(stem); // "of" is no hit worth a mark
    const count = { 0: "Nothing found.", 1: "1 result." }[found.length] ?? `${found.length} results.`;
    const more = found.length > SHOWN ? ` The first ${SHOWN}:` : "";
    const list = node("ol", "", "search-list");
    for (const e of found.slice(0, SHOWN)) {
      const item = list.appendChild(node("li"));
      const title = item.appendChild(node("a", e.title));
      title.href = e.url;
      const where = [e.kind, e.where].filter(Boolean).join(" · ");
      item.append(node("span", where[0].toUpperCase() + where.slice(1), "search-where"), summary(e.text, stems));
    }
    if (!found.length) list.append(node("li", "Try fewer words, or the beginning of a word."));
    say(count + more, list);
  };

  window.bookSearch = { find, show };
  const field = document.querySelector(".bd-search-container input[name=q]");
  const asked = new URLSearchParams(location.search).get("q") ?? "";
  document.querySelectorAll("input[name=q]").forEach((input) => (input.value = asked));
  if (asked.trim()) show(asked);
  field.addEventListener("input", () => {
    if (field.value.trim()) show(field.value);
    else say("");
  });
  field.focus();
})();
