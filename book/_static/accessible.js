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
  /* What scrolls sideways must be reachable by keyboard; formulas have their width once MathJax is done. */
  const reach = () =>
    each("div.math, .bd-article table, .cell_output pre, div.highlight pre", (e) => {
      if (e.scrollWidth > e.clientWidth) e.tabIndex = 0;
      else e.removeAttribute("tabindex");
    });
  addEventListener("load", () => Promise.resolve(window.MathJax?.startup?.promise).then(reach));
  addEventListener("resize", reach);
})();
