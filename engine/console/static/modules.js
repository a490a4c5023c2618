import{I as s,U as a,ga as m,ia as p,k as o,u as r,y as e}from"./chunk-Y336HLYW.js";export{o as api,p as cacheTiers,m as decisionWindow,r as dom,s as format,a as plot,e as sse};
