// What the scripts of the dashboard and their tests are held to.
// Names of models and concepts come from users: markup or code made of text would let them run code in the page.

import js from "@eslint/js";
import globals from "globals";

const MARKUP = "Build nodes and set textContent: text from users must not become markup.";
const WRITES_MARKUP = "/^(innerHTML|outerHTML|insertAdjacentHTML|setHTMLUnsafe)$/";
const forbidden = (selector, message) => ({ selector, message });

export default [
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-implicit-globals": "error",
      "no-new-func": "error",
      "no-shadow": ["error", { builtinGlobals: false, hoist: "functions" }],
      "no-unused-vars": ["error", { args: "after-used", argsIgnorePattern: "^_" }],
      "no-var": "error",
      "prefer-const": ["error", { destructuring: "all" }],
      "no-restricted-syntax": [
        "error",
        forbidden(`MemberExpression[property.name=${WRITES_MARKUP}]`, MARKUP),
        forbidden(`MemberExpression[property.value=${WRITES_MARKUP}]`, MARKUP),
        forbidden("CallExpression[callee.object.name='document'][callee.property.name=/^write(ln)?$/]", MARKUP),
        forbidden("ImportExpression", "Modules are joined into one text before they are served: import by name."),
        forbidden("ExportAllDeclaration", "The joiner of modules needs every exported name: export by name."),
      ],
    },
  },
  { files: ["tests/js/**"], languageOptions: { globals: globals.node } },
];
