/** The panel that the cell's widget draws as well: one source, in nbaas/widgets/front. */
declare module '*/front/panel.js' {
  interface IPanelHost {
    send(message: { kind: string; [key: string]: unknown }): void;
  }
  interface IPanel {
    update(view: object): void;
    data(message: object, buffers: DataView[]): void;
    destroy(): void;
  }
  export function createPanel(
    chart: unknown,
    root: HTMLElement,
    host: IPanelHost
  ): IPanel;
}
