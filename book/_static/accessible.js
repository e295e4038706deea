/* What the theme lacks or gets wrong: names and roles (found by axe), the first visit, paper. */
(() => {
  const root = document.documentElement;
  /* On a first visit there is no mode yet, and the theme's script complains of it. */
  root.dataset.mode ||= "auto";
  /* Who reads in the dark prints in the light. */
  let theme = "";
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => (root.dataset.theme = theme));
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  /* A toggle in the sidebar is named by the chapter that it opens. */
  each(".bd-sidebar nav li > details > summary", (s) => {
    const link = s.closest("li").querySelector("a");
    s.setAttribute("aria-label", "Sections of " + (link ? link.textContent.trim() : "this part"));
  });
  /* Visible text is the better name. */
  each(".search-button-field, .search-button, details.hide > summary", (e) => {
    if (e.textContent.trim()) e.removeAttribute("aria-label");
  });
  /* Three titled icons (Light, Dark, System) would contradict the button's one name; they arrive late. */
  const hush = (button) =>
    button.querySelectorAll("i, svg, .theme-switch").forEach((icon) => {
      for (const a of ["title", "role", "aria-labelledby"]) icon.removeAttribute(a);
      icon.querySelector("title")?.remove();
      icon.setAttribute("aria-hidden", "true");
    });
  each(".theme-switch-button", (button) => {
    hush(button);
    new MutationObserver(() => hush(button)).observe(button, { childList: true, subtree: true });
  });
  each("[role=doc-biblioentry], .citation-list [role], div.citation[role]", (e) => e.removeAttribute("role"));
  each(".citation-list[role], [role=list].citation", (e) => e.removeAttribute("role"));
  /* The book's name stands in no landmark of the theme's; a head without words is no head. */
  each(".sidebar-primary-items__start > .sidebar-primary-item:has(.navbar-brand)", (e) => {
    e.setAttribute("role", "region");
    e.setAttribute("aria-label", "Book");
  });
  each("th", (e) => {
    if (e.textContent.trim() || e.querySelector("img, svg")) return;
    const cell = document.createElement("td");
    cell.className = e.className;
    e.replaceWith(cell);
  });
  /* A name of the code breaks between its words only. */
  each(".bd-article table code .pre", (e) => {
    const words = e.textContent.split(/(?<=[_.(])/);
    e.replaceChildren(...words.flatMap((word) => [word, document.createElement("wbr")]));
  });
  /* A figure of several panels stays legible on a phone: it scrolls inside itself. */
  each(".bd-article .theme-svg", (e) => {
    if (e.querySelector("svg")?.viewBox.baseVal.width > 480) e.classList.add("wide-figure");
  });
  /* What scrolls sideways must be reachable by keyboard, and look it; formulas have their width once
     MathJax is done. */
  const reach = () =>
    each("div.math, .bd-article table, .cell_output pre, div.highlight pre, .wide-figure", (e) => {
      const scrolls = e.scrollWidth > e.clientWidth;
      e.classList.toggle("scrolls-sideways", scrolls);
      if (scrolls) e.tabIndex = 0;
      else e.removeAttribute("tabindex");
    });
  /* MathJax draws formulas by style sheet, without a text: a screen reader is given their source. */
  const speak = () => {
    for (const { math, typesetRoot } of window.MathJax?.startup?.document?.math ?? []) {
      typesetRoot?.setAttribute("role", "img");
      typesetRoot?.setAttribute("aria-label", math.trim().replace(/\s+/g, " "));
    }
  };
  addEventListener("load", () =>
    Promise.resolve(window.MathJax?.startup?.promise).then(() => (speak(), reach())),
  );
  addEventListener("resize", reach);
})();
